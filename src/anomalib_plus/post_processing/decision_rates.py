"""False alarms and detections of predictions, with the uncertainty of their counts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomalib_plus.post_processing.conformal_math import clopper_pearson

GOOD = "good"
DEFECTIVE = "defective"


class Rate(NamedTuple):
    """Share of a group of images that was rejected, with its Clopper-Pearson interval."""

    group: str
    """"good", "defective" (all of them) or a type of defect."""
    rejected: int
    images: int
    rate: float
    """``rejected / images``: a false-alarm rate for good images, else a detection rate."""
    low: float
    high: float

    def __str__(self) -> str:
        kind = "false alarms" if self.group == GOOD else "detected"
        counts = f"{self.rejected} of {self.images}"
        return f"{self.group}: {counts} {kind}, {self.rate:.1%} ({self.low:.1%} to {self.high:.1%})"


def compute_decision_rates(predictions: Iterable[Any], confidence: float = 0.95) -> list[Rate]:
    """Count rejected images: good ones, defective ones, and those of each type of defect.

    The type is the name of the image's folder, as in ``test/scratch/000.png``. It is left out if all defective images
    lie in one folder.

    Args:
        predictions: Batches with ``pred_label`` and ``gt_label``, and ``image_path`` for the types, as returned by
            ``engine.predict(model, datamodule=datamodule)``.
        confidence: Probability that an interval contains the rate, at least.

    Raises:
        ValueError: If a batch has no decisions or no labels, or there are no batches.
    """
    rejected: dict[str, list[bool]] = {}
    for batch in predictions:
        if batch.pred_label is None or batch.gt_label is None:
            missing = "decisions (pred_label)" if batch.pred_label is None else "true labels (gt_label)"
            msg = f"The predictions have no {missing}. Predict a labelled datamodule with a model that has thresholds."
            raise ValueError(msg)
        count_decisions(batch, rejected)
    return rates_of(rejected, confidence)


def count_decisions(batch: Any, rejected: dict[str, list[bool]]) -> None:
    """Add the decisions of a batch to those of their groups."""
    labels = torch.as_tensor(batch.gt_label).flatten().tolist()
    paths = batch.image_path or [""] * len(labels)
    for decision, defective, path in zip(batch.pred_label.flatten().tolist(), labels, paths, strict=True):
        for group in [DEFECTIVE, f"{DEFECTIVE}: {Path(path).parent.name}"] if defective else [GOOD]:
            rejected.setdefault(group, []).append(bool(decision))


def rates_of(rejected: dict[str, list[bool]], confidence: float) -> list[Rate]:
    """Turn decisions by group into rates: good first, then all defective ones, then the types in alphabetical order."""
    if not rejected:
        msg = "There are no predictions to count."
        raise ValueError(msg)
    types = sorted(set(rejected) - {GOOD, DEFECTIVE})
    groups = [group for group in (GOOD, DEFECTIVE) if group in rejected] + (types if len(types) > 1 else [])
    rates = []
    for group in groups:
        count, images = sum(rejected[group]), len(rejected[group])
        rates.append(Rate(group, count, images, count / images, *clopper_pearson(count, images, confidence)))
    return rates
