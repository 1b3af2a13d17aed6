"""Renderer of a turned steel washer with a keyway on a rubber mat."""

import numpy as np
from skimage.filters import gaussian

from anomalib_plus.data.demo_surfaces.scene import (
    IMAGE_SIZE,
    Scene,
    lamp,
    pixel_grid,
    relief_shading,
    smooth_noise,
    white_balance,
)

OUTER_RADIUS, BORE_RADIUS, BEVEL = 90.0, 36.0, 4.5
KEYWAY_HALF_WIDTH, KEYWAY_DEPTH = 8.0, 14.0
STEEL, MAT = np.array([0.60, 0.61, 0.63]), np.array([0.17, 0.19, 0.21])


def draw_washer(rng: np.random.Generator) -> Scene:
    """Draw the washer at a random location, rotation and camera distance, under a random lamp."""
    light, illumination = lamp(rng)
    zoom = rng.uniform(0.97, 1.03)
    centre = IMAGE_SIZE / 2 + rng.uniform(-14, 14, size=2)
    turn = rng.uniform(0, 2 * np.pi)

    rows, columns = ((grid - offset) / zoom for grid, offset in zip(pixel_grid(), centre, strict=True))
    along = columns * np.cos(turn) + rows * np.sin(turn)
    across = rows * np.cos(turn) - columns * np.sin(turn)
    inside = _distance_to_edge(along, across)
    coverage = (inside * zoom + 0.5).clip(0, 1)

    tint = white_balance(rng) * illumination[..., None]
    metal = STEEL * _metal_shading(rng, rows, columns, inside, light)[..., None]
    ground = MAT * _mat_shading(rng, coverage, light)[..., None]
    return Scene((metal * tint).clip(0, 1), coverage, (ground * tint).clip(0, 1), light)


def _distance_to_edge(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Distance in pixels from the nearest edge of the part, positive on the metal; ``along`` points to the keyway."""
    radius = np.hypot(along, across)
    ring = np.minimum(OUTER_RADIUS - radius, radius - BORE_RADIUS)
    keyway = np.maximum(np.abs(across) - KEYWAY_HALF_WIDTH, along - (BORE_RADIUS + KEYWAY_DEPTH))
    keyway = np.where(along > 0, keyway, np.inf)
    return np.minimum(ring, keyway)


def _metal_shading(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, inside: np.ndarray, light: np.ndarray
) -> np.ndarray:
    """Brightness of turned steel: two opposite highlights, concentric tool marks, bevelled edges, a little grain."""
    radius = np.hypot(rows, columns).clip(1e-6)
    facing = (rows * light[0] + columns * light[1]) / radius
    highlight = np.exp(-(((1 - facing**2) / rng.uniform(0.32, 0.42)) ** 1.2))
    marks = _rings(rng, radius, width=0.7, depth=0.03) + _rings(rng, radius, width=5.0, depth=0.015)
    grain = 0.012 * smooth_noise(rng, 2) + 0.012 * smooth_noise(rng, 40)

    bevel = relief_shading(gaussian(np.minimum(inside, BEVEL).clip(0), sigma=0.8), light)
    return 0.66 + 0.55 * highlight + (marks + grain) * (0.7 + highlight) + 0.30 * bevel


def _rings(rng: np.random.Generator, radius: np.ndarray, width: float, depth: float) -> np.ndarray:
    """Concentric marks of a lathe: random brightness of deviation ``depth`` every ``width`` pixels."""
    distances = np.arange(0, 2 * IMAGE_SIZE, width)
    return np.interp(radius, distances, rng.normal(0, depth, distances.size))


def _mat_shading(rng: np.random.Generator, coverage: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Brightness of the mat: fine grain, and the washer's shadow away from the lamp."""
    shadow = np.maximum(
        0.55 * np.roll(gaussian(coverage, sigma=4), np.rint(-5 * light).astype(int), axis=(0, 1)),
        0.75 * gaussian(coverage, sigma=1.5),
    )
    seen_through_gaps = 1 - 0.7 * coverage
    grain = 1 + 0.09 * smooth_noise(rng, 2) + 0.04 * smooth_noise(rng, 20)
    return grain * (1 - 0.75 * shadow * seen_through_gaps)
