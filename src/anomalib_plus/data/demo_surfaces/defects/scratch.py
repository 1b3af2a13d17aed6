"""Scratches: grooves along random curves that erase the surface's texture."""

import numpy as np
from skimage.filters import gaussian

from anomalib_plus.data.demo_surfaces.defects.strokes import random_curve, random_profile, stroke
from anomalib_plus.data.demo_surfaces.scene import Scene, compose, relief_shading


def scratch(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add one to three grooves of varying width and depth, all brighter or all darker than the surface."""
    on_material = scene.coverage > 0.5
    base, contrast = scene.material[on_material].mean(axis=0), scene.material[on_material].std()
    tone = (base + rng.choice((-1.0, 1.0), p=(0.35, 0.65)) * rng.uniform(1.6, 2.6) * contrast).clip(0.04, 0.96)
    material, reach = scene.material, np.zeros(scene.coverage.shape)
    for _ in range(rng.integers(1, 4)):
        points = random_curve(rng, scene.coverage, length=rng.uniform(50, 130), bend=0.15)
        taper = np.sin(np.linspace(0.15, np.pi - 0.15, len(points))) ** 0.5
        groove, nearest = stroke(points, taper * random_profile(rng, len(points), 1.8, 4.2))
        depth = random_profile(rng, len(points), 0.65, 1.0)[nearest]
        flanks = 0.25 * relief_shading(-2 * gaussian(groove, sigma=0.7), scene.light)
        material = compose(tone * (1 + flanks)[..., None], groove * depth, material)
        reach = np.maximum(reach, groove)
    return compose(material, scene.coverage, scene.ground), reach * scene.coverage > 0.2
