"""Conformal thresholds and p-values of anomaly scores; NumPy only, so that stations need no PyTorch.

Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, chapter 2.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def conformal_threshold(scores: ArrayLike, rate: float) -> float:
    """Compute the threshold that a new good image exceeds with a probability of at most ``rate``.

    Args:
        scores: Scores (n,) of good calibration images.
        rate: False-alarm rate, in (0, 1).

    Returns:
        The ceil((n + 1)(1 - rate))-th smallest score; infinity if n is too small for the rate.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    rank = math.ceil((len(ordered) + 1) * (1 - rate) - 1e-9)
    return float(ordered[rank - 1]) if rank <= len(ordered) else math.inf


def p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> NDArray[np.float64]:
    """Compute (1 + number of calibration scores >= score) / (n + 1) for each score; the smallest for NaN."""
    ordered = np.sort(np.asarray(calibration_scores, np.float64))
    smaller = np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
    return (1 + len(ordered) - smaller) / (len(ordered) + 1)


def smallest_rate(n: int) -> float:
    """Return the smallest false-alarm rate that ``n`` calibration scores support."""
    return 1 / (n + 1)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the two-sided Clopper-Pearson interval of a probability, of which ``k`` in ``n`` trials were seen."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    lower = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    upper = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return lower, upper
