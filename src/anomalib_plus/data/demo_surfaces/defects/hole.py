"""Holes and broken-off pieces: the material is missing within a jagged outline."""

import numpy as np
from skimage.filters import gaussian

from anomalib_plus.data.demo_surfaces.defects.strokes import irregular_outline, random_place
from anomalib_plus.data.demo_surfaces.scene import Scene, compose, relief_shading


def hole(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut a jagged gap with a broken edge that shows the ground: at the rim of a part or inside a texture."""
    centre = random_place(rng, scene.rim if scene.rim.any() else scene.coverage)
    inside = irregular_outline(rng, centre, radius=rng.uniform(13, 24), corners=int(rng.integers(7, 12)))
    gap, broken = (inside + 0.5).clip(0, 1), (inside + 3.0).clip(0, 1)

    edge = np.tanh(relief_shading(-6 * gaussian(gap, sigma=1.5), scene.light))
    material = scene.material * (1 + broken * (0.4 * edge - 0.15))[..., None]
    wall = np.tanh(relief_shading(-9 * gaussian(gap, sigma=4), scene.light))
    ground = scene.ground * (1 + gap * (0.6 * wall - 0.15))[..., None]
    return compose(material, scene.coverage * (1 - gap), ground), broken * scene.coverage > 0.3
