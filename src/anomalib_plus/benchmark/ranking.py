"""Metrics of raw scores: nothing but their order counts, so no range, threshold or normalisation can touch them.

The counts behind all curves come from one sort. The numbers equal scikit-learn's and the AUPRO of MVTec's evaluation.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_components

MAX_POINTS = 200
"""Points of a curve in a record."""

Floats = NDArray[np.floating]


class Curve(NamedTuple):
    """A curve from (0, 0), one point per distinct score, highest first; float64."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


class Ranked(NamedTuple):
    """Scores in descending order; of equal scores, only the last position counts as a threshold."""

    order: NDArray[np.int64]
    ends: NDArray[np.int64]


def rank(scores: Floats) -> Ranked:
    """Sort ``scores`` (any shape) in descending order.

    Raises:
        ValueError: If a score is not finite.
    """
    flat = scores.reshape(-1)
    if not np.isfinite(flat).all():
        msg = f"{int((~np.isfinite(flat)).sum())} of {flat.size} scores are NaN or infinite: there is no ranking."
        raise ValueError(msg)
    order = np.argsort(flat)[::-1]
    ordered = flat[order]
    return Ranked(order, np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)))


def roc_curve(ranked: Ranked, labels: NDArray[np.bool_]) -> Curve | None:
    """True positive rate over false positive rate; None unless both classes occur."""
    positives = labels.reshape(-1)[ranked.order]
    total = np.count_nonzero(positives)
    if total in (0, positives.size):
        return None
    true_positives = np.cumsum(positives, dtype=np.int64)[ranked.ends]
    false_positives = ranked.ends + 1 - true_positives
    return Curve(_from_zero(false_positives / (positives.size - total)), _from_zero(true_positives / total))


def area_under(curve: Curve) -> float:
    """Area by the trapezoidal rule."""
    return float(np.trapezoid(curve.y, curve.x))


def average_precision(ranked: Ranked, labels: NDArray[np.bool_]) -> float | None:
    """Mean precision weighted by the gain in recall, as scikit-learn has it; None without positives."""
    positives = labels.reshape(-1)[ranked.order]
    true_positives = np.cumsum(positives, dtype=np.int64)[ranked.ends]
    if true_positives[-1] == 0:
        return None
    precision = true_positives / (ranked.ends + 1)
    recall = _from_zero(true_positives / true_positives[-1])
    return float(np.sum(np.diff(recall) * precision))


def f1_max(ranked: Ranked, labels: NDArray[np.bool_]) -> float | None:
    """Largest F1 over all thresholds, scores at the threshold included; None without positives."""
    positives = labels.reshape(-1)[ranked.order]
    true_positives = np.cumsum(positives, dtype=np.int64)[ranked.ends]
    if true_positives[-1] == 0:
        return None
    return float(np.max(2 * true_positives / (ranked.ends + 1 + true_positives[-1])))


def per_region_overlap(ranked: Ranked, masks: NDArray[np.bool_]) -> Curve | None:
    """Mean recall of the defects, each connected region (8 neighbours) counting alike, over the false positive rate.

    Args:
        ranked: The scores of all pixels of all maps.
        masks: (N, H, W).

    Returns:
        The curve; None unless there are defects and normal pixels.
    """
    weights = np.zeros(masks.shape, np.float64)
    count = 0
    for mask, weight in zip(masks, weights, strict=True):
        if mask.any():
            regions, found = connected_components(mask, connectivity=2, return_num=True)
            sizes = np.bincount(regions.reshape(-1), minlength=found + 1)
            inverse = np.append(0.0, 1 / sizes[1:])
            weight[...] = inverse[regions]
            count += found
    negatives = ~masks.reshape(-1)[ranked.order]
    normal = np.count_nonzero(negatives)
    if count == 0 or normal == 0:
        return None
    overlap = np.cumsum(weights.reshape(-1)[ranked.order])[ranked.ends] / count
    false_positives = np.cumsum(negatives, dtype=np.int64)[ranked.ends]
    return Curve(_from_zero(false_positives / normal), _from_zero(np.minimum(overlap, 1.0)))


def area_up_to(curve: Curve, limit: float) -> float:
    """Area up to x = ``limit``, divided by ``limit``."""
    inside = curve.x <= limit
    x, y = curve.x[inside], curve.y[inside]
    if x[-1] < limit:
        x, y = np.append(x, limit), np.append(y, np.interp(limit, curve.x, curve.y))
    return float(np.trapezoid(y, x) / limit)


def thin_out(curve: Curve, points: int = MAX_POINTS) -> dict[str, list[float]]:
    """At most ``points`` of a curve's points, evenly spread along its length, both ends included; for drawing."""
    way = _from_zero(np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y))))
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)).clip(max=len(way) - 1))
    return {"x": [round(float(v), 6) for v in curve.x[chosen]], "y": [round(float(v), 6) for v in curve.y[chosen]]}


def _from_zero(values: NDArray) -> NDArray[np.float64]:
    return np.concatenate([[0.0], values])
