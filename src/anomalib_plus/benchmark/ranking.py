"""Metrics of raw scores: only their order counts, so no range, threshold or normalisation can change them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_components
from sklearn import metrics

from anomalib_plus.counts import counted

MAX_POINTS = 200
"""Points of a curve in a record."""

Floats = NDArray[np.floating]
Labels = NDArray[np.bool_]


class Curve(NamedTuple):
    """A curve from (0, 0), one point per distinct score, highest first; float64."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


def check_finite(scores: Floats) -> None:
    """Raise a ValueError if a score is NaN or infinite."""
    if bad := np.count_nonzero(~np.isfinite(scores)):
        msg = f"{bad} of {counted(scores.size, 'score')} cannot be ranked: NaN or infinite."
        raise ValueError(msg)


def roc_curve(scores: Floats, labels: Labels, weights: Floats | None = None) -> Curve | None:
    """ROC curve of scores and labels of equal shape, optionally weighted; None unless both classes occur."""
    if labels.all() or not labels.any():
        return None
    sample_weight = None if weights is None else weights.ravel()
    x, y, _ = metrics.roc_curve(labels.ravel(), scores.ravel(), sample_weight=sample_weight, drop_intermediate=False)
    return Curve(x, y)


def average_precision(scores: Floats, labels: Labels) -> float:
    """Average precision as scikit-learn defines it."""
    return float(metrics.average_precision_score(labels.ravel(), scores.ravel()))


def f1_max(scores: Floats, labels: Labels) -> float:
    """Largest F1 over all thresholds; scores at the threshold count as anomalous."""
    precision, recall, _ = metrics.precision_recall_curve(labels.ravel(), scores.ravel())
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)))


def per_region_overlap(maps: Floats, masks: Labels) -> Curve | None:
    """Mean recall of the defects against the false positive rate, as in MVTec AD's evaluation.

    It is the ROC curve of the pixels where each connected region (8 neighbours) has the same total weight.

    Args:
        maps: (N, H, W).
        masks: (N, H, W).

    Returns:
        The curve; None unless there are defects and normal pixels.
    """
    weights = np.ones(masks.shape)
    for mask, weight in zip(masks, weights, strict=True):
        regions = connected_components(mask, connectivity=2)
        weight[mask] = 1 / np.bincount(regions.ravel())[regions[mask]]
    return roc_curve(maps, masks, weights)


def area_under(curve: Curve, limit: float = 1.0) -> float:
    """Area by the trapezoidal rule up to x = ``limit``, divided by ``limit``."""
    inside = curve.x <= limit
    x, y = curve.x[inside], curve.y[inside]
    if x[-1] < limit:
        x, y = np.append(x, limit), np.append(y, np.interp(limit, curve.x, curve.y))
    return float(np.trapezoid(y, x) / limit)


def thin_out(curve: Curve) -> dict[str, list[float]]:
    """Reduce a curve to ``MAX_POINTS`` points at most, evenly spread along its length, both ends included."""
    length = np.append(0.0, np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y))))
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)).clip(max=len(length) - 1))
    return {"x": curve.x[chosen].round(6).tolist(), "y": curve.y[chosen].round(6).tolist()}
