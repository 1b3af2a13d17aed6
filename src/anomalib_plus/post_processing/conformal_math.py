"""Thresholds and p-values from the scores of good images, by split conformal prediction.

Bates, Candes, Lei, Romano, Sesia: Testing for outliers with conformal p-values, The Annals of Statistics, 2023. The
guarantees assume that the good images of production are exchangeable with the calibration images, which must not have
been trained on. Imports neither torch nor anomalib.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from anomalib_plus.counts import counted

_ROUNDING = 1e-9
"""Relative error of a result such as ``125 * (1 - 0.176)`` or ``1 / (1 / 49)``, which must not be rounded up."""


def check_share(name: str, value: float) -> None:
    """Raise ``ValueError`` unless an argument is between 0 and 1."""
    if not 0 < value < 1:
        msg = f"{name} must be between 0 and 1, got {value}."
        raise ValueError(msg)


def conformal_rank(n: int, rate: float) -> int:
    """Rank of the threshold for a false-alarm rate among n scores: ``ceil((n + 1) * (1 - rate))``, at most n.

    Raises:
        ValueError: If there are no scores, or the rate is not between 0 and 1.
    """
    if n < 1:
        msg = f"A threshold needs the score of at least one good image, got {n}."
        raise ValueError(msg)
    check_share("false_positive_rate", rate)
    exact = (n + 1) * (1 - rate)
    return min(n, max(1, math.ceil(exact - _ROUNDING * exact)))


def conformal_threshold(scores: ArrayLike, rate: float) -> float:
    """Compute the threshold above which a new good image falls with a probability of at most ``rate``.

    With fewer than ``images_needed(rate)`` scores, the rate cannot be kept; the threshold is then the largest score.

    Args:
        scores: Scores of good images (n,), any range; those equal to the threshold are accepted.
        rate: Upper bound of the expected false-alarm rate.

    Raises:
        ValueError: If there are no scores, one is not finite, or the rate is not between 0 and 1.
    """
    values = _finite(scores)
    return float(np.sort(values)[conformal_rank(len(values), rate) - 1])


def p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> NDArray[np.float64]:
    """Compute conformal p-values: ``(1 + number of calibration scores >= score) / (n + 1)``.

    For good images, a p-value of at most a occurs with a probability of at most a.

    Args:
        scores: Any shape; NaN gives the smallest p-value.
        calibration_scores: Scores of good images (n,).

    Returns:
        Same shape as ``scores``, in [1 / (n + 1), 1].

    Raises:
        ValueError: If there are no calibration scores or one is not finite.
    """
    calibration = np.sort(_finite(calibration_scores))
    below = np.searchsorted(calibration, np.asarray(scores, dtype=np.float64), side="left")
    return (1 + len(calibration) - below) / (len(calibration) + 1)


def smallest_rate(n: int) -> float:
    """Smallest false-alarm rate that n calibration images can keep: ``1 / (n + 1)``."""
    return 1 / (n + 1)


def images_needed(rate: float) -> int:
    """Smallest number of calibration images that can keep a false-alarm rate: ``ceil(1 / rate) - 1``."""
    return max(1, math.ceil((1 - _ROUNDING) / rate) - 1)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the two-sided Clopper-Pearson interval, in [0, 1], of the rate of k events in n trials.

    It contains the rate with a probability of at least ``confidence``; (0, 1) without trials.

    Raises:
        ValueError: If ``k`` is not between 0 and ``n``, or ``confidence`` not between 0 and 1.
    """
    if not 0 <= k <= n:
        msg = f"The number of events must be between 0 and the number of trials {n}, got {k}."
        raise ValueError(msg)
    check_share("confidence", confidence)
    tail = (1 - confidence) / 2
    lower = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    upper = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return lower, upper


def false_alarm_bound(n: int, rank: int, confidence: float = 0.95) -> float:
    """Upper bound of the false-alarm rate of a threshold, the score of a ``rank`` from 1 among n calibration images.

    ``conformal_threshold`` bounds the rate on average over calibration sets. For one set, the rate is at most this
    bound with a probability of ``confidence``: the one-sided Clopper-Pearson bound of ``n - rank`` events in n trials.
    """
    return 1.0 if rank >= n + 1 else float(betaincinv(n - rank + 1, rank, confidence))


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    if not len(values):
        msg = "A threshold needs the score of at least one good image, got 0."
        raise ValueError(msg)
    unusable = int((~np.isfinite(values)).sum())
    if unusable:
        scores_of = f"of {counted(len(values), 'score')} of good images"
        found = counted(unusable, f"{scores_of} is", f"{scores_of} are")
        msg = f"{found} NaN or infinite, so they give no threshold."
        raise ValueError(msg)
    return values
