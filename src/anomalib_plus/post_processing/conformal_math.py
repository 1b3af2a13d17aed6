"""Thresholds and p-values from the scores of good images, by split conformal prediction.

Bates, Candes, Lei, Romano, Sesia: Testing for outliers with conformal p-values, The Annals of Statistics, 2023. The
guarantees assume that the good images of production are exchangeable with the calibration images, which must not have
been trained on.

Several images of one part are not exchangeable with images of new parts. Where ``parts`` tells which images show the
same part, each of the K parts has the same weight, shared by its images: ``1 / ((K + 1) * n_k)`` for each of n_k
images, and ``1 / (K + 1)`` for a new part (Lee, Barber, Willett: Distribution-free inference with hierarchical data,
2023). The guarantees then hold for an image of a new part, if parts are exchangeable. Imports neither torch nor
anomalib.
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
    return min(n, max(1, math.ceil(_weight_below(n, rate))))


def conformal_threshold(scores: ArrayLike, rate: float, parts: ArrayLike | None = None) -> float:
    """Compute the threshold above which an image of a new good part falls with a probability of at most ``rate``.

    It is the smallest score such that scores up to it weigh at least ``1 - rate``, and not lower than without
    ``parts``, so that it also holds where images that merely look alike are taken for one part. With fewer than
    ``images_needed(rate)`` parts, the rate cannot be kept; the threshold is then the largest score.

    Args:
        scores: Scores of good images (n,), any range; those equal to the threshold are accepted.
        rate: Upper bound of the expected false-alarm rate.
        parts: Number or name of the part that each image shows (n,); None if each shows another one.

    Raises:
        ValueError: If there are no scores, one is not finite, the rate is not between 0 and 1, or there is another
            number of parts than of scores.
    """
    values, shares, count = _weighted(scores, parts)
    position = int(np.searchsorted(np.cumsum(shares), _weight_below(count, rate)))
    threshold = float(values[min(position, len(values) - 1)])
    return threshold if parts is None else max(threshold, conformal_threshold(scores, rate))


def p_values(scores: ArrayLike, calibration_scores: ArrayLike, parts: ArrayLike | None = None) -> NDArray[np.float64]:
    """Compute conformal p-values: the weight of a new part and of all calibration scores that are not smaller.

    Without ``parts`` this is ``(1 + number of calibration scores >= score) / (n + 1)``; with them it is not less than
    that. For images of new good parts, a p-value of at most a occurs with a probability of at most a.

    Args:
        scores: Any shape; NaN gives the smallest p-value.
        calibration_scores: Scores of good images (n,).
        parts: Number or name of the part that each of these images shows (n,); None if each shows another one.

    Returns:
        Same shape as ``scores``, in [1 / (K + 1), 1] for K parts.

    Raises:
        ValueError: If there are no calibration scores, one is not finite, or there is another number of parts.
    """
    calibration, shares, count = _weighted(calibration_scores, parts)
    from_here = np.append(np.cumsum(shares[::-1])[::-1], 0.0)
    below = np.searchsorted(calibration, np.asarray(scores, dtype=np.float64), side="left")
    found = np.minimum((1 + from_here[below]) / (count + 1), 1.0)
    return found if parts is None else np.maximum(found, p_values(scores, calibration_scores))


def smallest_rate(n: int) -> float:
    """Smallest false-alarm rate that calibration images of n parts can keep: ``1 / (n + 1)``."""
    return 1 / (n + 1)


def rounded_up(rate: float) -> float:
    """Round a rate up to three digits: images that keep the rate keep the result too."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 2)
    return math.ceil((1 - _ROUNDING) * rate / unit) * unit


def images_needed(rate: float) -> int:
    """Smallest number of calibration images, each of another part, that can keep a rate: ``ceil(1 / rate) - 1``.

    If several images show one part, it is the number of parts.
    """
    return max(1, math.ceil((1 - _ROUNDING) / rate) - 1)


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the two-sided Clopper-Pearson interval, in [0, 1], of the rate of k events in n trials.

    It contains the rate with a probability of at least ``confidence``; (0, 1) without trials. The numbers need not be
    whole: of trials that depend on each other give the effective number, and its share of the events (Korn, Graubard:
    Confidence intervals for proportions with small expected number of positive counts, 1998).

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
    It is exact for images of different parts. If parts have several images each, there is no exact bound; with the
    number of parts and ``conformal_rank`` of it, this one is approximate.
    """
    return 1.0 if rank >= n + 1 else float(betaincinv(n - rank + 1, rank, confidence))


def _weight_below(count: int, rate: float) -> float:
    """Return the weight that scores up to the threshold must have, in units of one part of ``count``."""
    if count < 1:
        msg = f"A threshold needs the score of at least one good image, got {count}."
        raise ValueError(msg)
    check_share("false_positive_rate", rate)
    exact = (count + 1) * (1 - rate)
    return exact - _ROUNDING * exact


def _weighted(scores: ArrayLike, parts: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return scores in ascending order, each one's share of the weight of its part, and the number of parts."""
    values = _finite(scores)
    order = np.argsort(values)
    if parts is None:
        return values[order], np.ones(len(values)), len(values)
    names = np.asarray(parts).reshape(-1)
    if len(names) != len(values):
        msg = f"There must be one part for each score, got {len(names)} for {counted(len(values), 'score')}."
        raise ValueError(msg)
    _, numbers, sizes = np.unique(names, return_inverse=True, return_counts=True)
    return values[order], 1 / sizes[numbers][order], len(sizes)


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
