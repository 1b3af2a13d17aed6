"""Superpixels of one image: SLICO, and a jittered Voronoi grid where SLICO finds too few.

SLICO (Achanta et al. 2012) is SLIC with a compactness per superpixel. Plain SLIC collapses on noisy textures (one
superpixel on white noise), SLICO gives about as many as asked.
"""

import hashlib
import math

import numpy as np
from skimage.segmentation import slic

_COMPACTNESS = 10.0  # only where SLICO starts from
_ITERATIONS = 10
_OVERSHOOT = 0.1  # how far resizing with a sharpening kernel may leave [0, 1]


def superpixel_labels(image: np.ndarray, n_segments: int, min_segments: int) -> np.ndarray:
    """Cut an image into about ``n_segments`` superpixels (TSDN, section 3).

    Args:
        image: RGB, (H, W, 3), float in [0, 1].
        n_segments: Superpixels asked for.
        min_segments: With fewer, the cells of a jittered grid of about ``n_segments`` points are returned instead. The
            jitter depends on the image alone.

    Returns:
        int16 label map (H, W): each of 0 ... n - 1 occurs.

    Raises:
        ValueError: If values are not finite or far from [0, 1], or if the labels do not fit 16 bits.
    """
    low, high = image.min(), image.max()
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
        msg = (
            f"Superpixels are cut from RGB images in [0, 1], got values from {low} to {high}. "
            "Divide 8-bit images by 255 and normalise with mean and standard deviation later, inside the model."
        )
        raise ValueError(msg)
    labels = slic(
        image,
        n_segments=n_segments,
        compactness=_COMPACTNESS,
        max_num_iter=_ITERATIONS,
        slic_zero=True,
        start_label=0,
    )
    if labels.max() + 1 < min_segments:
        seed = int.from_bytes(hashlib.sha1(image.tobytes(), usedforsecurity=False).digest(), "little")
        height, width = image.shape[:2]
        labels = voronoi_labels(jittered_grid(height, width, math.ceil(math.sqrt(n_segments)), seed), height, width)
    if labels.max() > np.iinfo(np.int16).max:
        msg = f"n_segments={n_segments} gives {labels.max() + 1} superpixels; label maps hold at most {2**15}."
        raise ValueError(msg)
    return labels.astype(np.int16)


def jittered_grid(height: int, width: int, points_per_side: int, seed: int) -> np.ndarray:
    """One point in the middle half of each cell of a square grid over the image; (points_per_side ** 2, 2) as y, x."""
    cells = np.indices((points_per_side, points_per_side)).reshape(2, -1).T
    jitter = np.random.default_rng(seed).uniform(0.25, 0.75, cells.shape)
    return (cells + jitter) / points_per_side * (height, width)


def voronoi_labels(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Index of the point nearest to each pixel's centre, (H, W); points that are nearest to none are not counted."""
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    across = (columns[:, None] - points[:, 1]) ** 2
    nearest = np.stack([((row - points[:, 0]) ** 2 + across).argmin(axis=1) for row in rows])
    return np.unique(nearest, return_inverse=True)[1].reshape(height, width)
