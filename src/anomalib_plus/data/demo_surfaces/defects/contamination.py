"""Foreign matter on the surface: drops of oil, fibres, dust."""

import numpy as np
from skimage.filters import gaussian

from anomalib_plus.data.demo_surfaces.defects.strokes import (
    irregular_outline,
    random_curve,
    random_place,
    random_profile,
    stroke,
)
from anomalib_plus.data.demo_surfaces.scene import Scene, compose, pixel_grid, relief_shading

OILS = ((0.30, 0.19, 0.07), (0.13, 0.10, 0.08), (0.42, 0.33, 0.12))
YARNS = ((0.12, 0.14, 0.42), (0.55, 0.10, 0.10), (0.93, 0.92, 0.88), (0.06, 0.06, 0.07))
DUSTS = ((0.80, 0.74, 0.62), (0.20, 0.15, 0.11))


def contamination(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add one of the three kinds of foreign matter at a random location on the material."""
    return (oil, fibre, dust)[rng.integers(3)](scene, rng)


def oil(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add a translucent drop that reflects the lamp, as a sum of balls."""
    rows, columns = pixel_grid()
    centre, field = random_place(rng, scene.coverage), np.zeros(rows.shape)
    for _ in range(rng.integers(3, 7)):
        row, column = centre + rng.normal(0, 8, size=2)
        field += rng.uniform(5, 10) ** 2 / ((rows - row) ** 2 + (columns - column) ** 2 + 1)
    wet = ((field - 1) / 0.3).clip(0, 1)
    slope = relief_shading(gaussian(np.sqrt((field - 1).clip(0, 3)), sigma=2), scene.light)
    reflection = (slope / slope.max()).clip(0, 1) ** 8
    stained = scene.render() * (0.25 + np.array(OILS[rng.integers(len(OILS))]))
    image = compose(stained, 0.9 * wet, scene.render()) + (0.4 * wet * reflection)[..., None]
    return image, wet > 0.2


def fibre(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add a bent piece of yarn with a soft shadow beside it."""
    points = random_curve(rng, scene.coverage, length=rng.uniform(70, 130), bend=0.6)
    yarn, _ = stroke(points, random_profile(rng, len(points), 1.3, 2.2))
    shadow = 0.5 * gaussian(stroke(points - 2.0 * scene.light, np.full(len(points), 2.0))[0], sigma=1.0)
    shaded = scene.render() * (1 - shadow)[..., None]
    round_yarn = 1 + 0.35 * relief_shading(gaussian(yarn, sigma=0.8), scene.light)
    colour = np.array(YARNS[rng.integers(len(YARNS))]) * round_yarn[..., None]
    return compose(colour, yarn, shaded), np.maximum(yarn, shadow) > 0.2


def dust(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add a loose heap of crumbs of different sizes."""
    centre, crumbs = random_place(rng, scene.coverage), np.zeros(scene.coverage.shape)
    for _ in range(rng.integers(20, 45)):
        place = centre + rng.normal(0, 9, size=2)
        crumb = irregular_outline(rng, place, radius=rng.gamma(2, 0.7) + 0.8, corners=5)
        crumbs = np.maximum(crumbs, (crumb + 0.5).clip(0, 1))
    shading = 1 + 0.4 * relief_shading(gaussian(crumbs, sigma=1) * 2, scene.light)
    colour = np.array(DUSTS[rng.integers(len(DUSTS))]) * shading[..., None]
    return compose(colour, 0.9 * crumbs, scene.render()), crumbs > 0.25
