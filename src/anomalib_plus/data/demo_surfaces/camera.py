"""The camera: sensor noise and quantisation, the same for a defective picture and for its flawless twin."""

import numpy as np

READ_NOISE = 0.004
SHOT_NOISE = 0.0001


def draw_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Unit noise of one exposure; drawn apart from :func:`expose` so that twins can share it."""
    return rng.standard_normal(shape)


def expose(picture: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Turn a float picture in [0, 1] into uint8. Works pixel by pixel: equal pixels stay equal."""
    deviation = np.sqrt(READ_NOISE**2 + SHOT_NOISE * picture.clip(0, 1))
    return np.rint((picture + deviation * noise).clip(0, 1) * 255).astype(np.uint8)
