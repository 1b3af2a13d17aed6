"""Sensor noise and 8-bit quantisation, the same for a defective image and for its defect-free twin."""

import numpy as np

READ_NOISE = 0.004
SHOT_NOISE = 0.0001


def draw_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw unit noise for one exposure, separate from :func:`expose` so that twins can share it."""
    return rng.standard_normal(shape)


def expose(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Add noise to a float image in [0, 1] and convert it to uint8, each pixel on its own."""
    deviation = np.sqrt(READ_NOISE**2 + SHOT_NOISE * image.clip(0, 1))
    return np.rint((image + deviation * noise).clip(0, 1) * 255).astype(np.uint8)
