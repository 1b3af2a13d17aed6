"""Deformations: the material is displaced or rotated within a small circle."""

import numpy as np
from skimage.transform import warp

from anomalib_plus.data.demo_surfaces.defects.strokes import random_place
from anomalib_plus.data.demo_surfaces.scene import Scene, compose, pixel_grid, relief_shading

HARMLESS_SHIFT = 0.75  # pixels; smaller displacements are set to 0 and are not part of the mask


def deformation(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Warp the material, its outline included, and shade it as a dent or bump."""
    centre = random_place(rng, scene.rim if scene.rim.any() else scene.coverage, margin=36)
    radius = rng.uniform(28, 40)
    pixels = np.stack(pixel_grid())
    offset = pixels - centre[:, None, None]
    bump = (1 - (offset**2).sum(axis=0) / radius**2).clip(0) ** 2
    shift = push(rng, bump) if rng.random() < 0.5 else twist(rng, bump, offset)
    moved = np.hypot(*shift) > HARMLESS_SHIFT

    source = pixels + shift * moved
    channels = [warp(channel, source, order=3, mode="edge") for channel in np.moveaxis(scene.material, -1, 0)]
    coverage = warp(scene.coverage, source, order=1, mode="edge")
    height = rng.choice((-1, 1)) * radius * 0.16 * bump**2
    shaded = np.stack(channels, axis=-1) * (1 + 1.2 * relief_shading(height, scene.light))[..., None]
    return compose(shaded, coverage, scene.ground), moved & (np.maximum(coverage, scene.coverage) > 0.02)


def push(rng: np.random.Generator, bump: np.ndarray) -> np.ndarray:
    """Draw a displacement field (2, H, W) that drags the centre in one direction."""
    direction = rng.uniform(0, 2 * np.pi)
    return rng.uniform(10, 14) * bump * np.array([np.sin(direction), np.cos(direction)])[:, None, None]


def twist(rng: np.random.Generator, bump: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Draw a displacement field (2, H, W) that rotates the centre."""
    angle = rng.choice((-1, 1)) * rng.uniform(1.0, 1.6) * bump
    rows, columns = offset
    turned = np.stack([rows * np.cos(angle) - columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)])
    return turned - offset
