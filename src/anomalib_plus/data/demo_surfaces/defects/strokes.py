"""Random curves and closed outlines, from which the defects are drawn."""

import numpy as np

from anomalib_plus.data.demo_surfaces.scene import IMAGE_SIZE, pixel_grid


def random_curve(rng: np.random.Generator, material: np.ndarray, length: float, bend: float) -> np.ndarray:
    """Draw a cubic Bezier curve of about ``length`` pixels, sampled twice per pixel, as rows and columns (samples, 2).

    Of twelve random curves the one with most samples on the ``material`` (H, W) is kept. ``bend`` is the largest
    sideways offset of its control points as a share of the length.
    """
    return max(
        (_bezier(rng, random_place(rng, material), length, bend) for _ in range(12)),
        key=lambda points: _sample(material, points).sum(),
    )


def _bezier(rng: np.random.Generator, middle: np.ndarray, length: float, bend: float) -> np.ndarray:
    heading = rng.uniform(0, np.pi)
    forward = np.array([np.sin(heading), np.cos(heading)])
    sideways = np.array([forward[1], -forward[0]])
    reach = np.linspace(-0.5, 0.5, 4)[:, None] * length * forward
    controls = middle + reach + rng.uniform(-bend, bend, size=(4, 1)) * length * sideways
    t = np.linspace(0, 1, round(2 * length))[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return weights @ controls


def _sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Read ``image`` at the pixels nearest to ``points``; 0 outside of it."""
    nearest = np.rint(points).astype(int)
    inside = ((nearest >= 0) & (nearest < image.shape)).all(axis=1)
    return np.where(inside, image[tuple(nearest.clip(0, np.array(image.shape) - 1).T)], 0)


def random_place(rng: np.random.Generator, allowed: np.ndarray, margin: int = 20) -> np.ndarray:
    """Draw a pixel (row, column) where ``allowed`` (H, W) is true, at least ``margin`` away from the border."""
    inner = allowed[margin:-margin, margin:-margin] > 0
    return np.argwhere(inner)[rng.integers(np.count_nonzero(inner))] + margin


def random_profile(rng: np.random.Generator, samples: int, low: float, high: float, knots: int = 7) -> np.ndarray:
    """Draw a value between ``low`` and ``high`` for each sample of a curve, interpolated between ``knots``."""
    return np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), rng.uniform(low, high, knots))


def stroke(points: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a curve of varying width, anti-aliased.

    Returns the coverage (H, W) in [0, 1] and, per pixel, the index of the curve's nearest sample.
    """
    coverage = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    nearest = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=int)
    top, left = (np.floor(points.min(axis=0) - widths.max()).astype(int)).clip(0, IMAGE_SIZE)
    bottom, right = (np.ceil(points.max(axis=0) + widths.max()).astype(int) + 1).clip(0, IMAGE_SIZE)
    around = np.s_[top:bottom, left:right]
    rows, columns = (grid[around] for grid in pixel_grid())
    if rows.size:
        distances = np.hypot(rows - points[:, 0, None, None], columns - points[:, 1, None, None])
        nearest[around] = distances.argmin(axis=0)
        coverage[around] = (widths[nearest[around]] / 2 + 0.5 - distances.min(axis=0)).clip(0, 1)
    return coverage, nearest


def irregular_outline(rng: np.random.Generator, centre: np.ndarray, radius: float, corners: int) -> np.ndarray:
    """Approximate signed distance in pixels (H, W), positive inside, to a closed shape with random ``corners``."""
    rows, columns = pixel_grid()
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    radii = radius * rng.uniform(0.72, 1.2, corners)
    squeeze, turn = rng.uniform(0.65, 1.0), rng.uniform(0, np.pi)
    across = (rows - centre[0]) * np.cos(turn) - (columns - centre[1]) * np.sin(turn)
    along = ((rows - centre[0]) * np.sin(turn) + (columns - centre[1]) * np.cos(turn)) * squeeze
    angle = np.arctan2(across, along)
    return np.interp(angle, angles, radii, period=2 * np.pi) - np.hypot(across, along)
