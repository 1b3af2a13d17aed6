"""Splits of the good images: training, selection of the model, calibration of the threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

from anomalib_plus.counts import counted
from anomalib_plus.post_processing.conformal_math import images_needed
from anomalib_plus.validation.holding_out import hold_out

LEAST_IMAGES = 20
_LEAST_SELECTION = _LEAST_CALIBRATION = 5
_LEAST_OF_GROUPS = 3
"""Least images of a split whose size groups have changed."""
_MOST_SELECTION = 100
_SPLITS = 3
_SHARE = 0.2
_ENOUGH_TRAINING = 72
"""Training images from which further ones rather support a lower false-alarm rate."""


@dataclass(frozen=True)
class Splits:
    """Indices of the images of each split."""

    training: list[int]
    selection: list[int]
    calibration: list[int]


def counts(n: int, rate: float) -> tuple[int, int, int]:
    """Return the numbers of images for training, selection and calibration.

    60, 20 and 20 percent; from 72 training images on, calibration gets more until it supports the rate, as long as 40
    percent remain for training. ``n`` is at least ``LEAST_IMAGES``.
    """
    selection = min(max(round(_SHARE * n), _LEAST_SELECTION), _MOST_SELECTION)
    kept = round(min((1 - 2 * _SHARE) * n, max(_ENOUGH_TRAINING, 2 * _SHARE * n)))
    calibration = max(round(_SHARE * n), _LEAST_CALIBRATION, min(images_needed(rate), n - selection - kept))
    return n - selection - calibration, selection, calibration


def divide(groups: Sequence[str], rate: float, seed: int) -> Splits:
    """Split images at random by :func:`counts`; those of one group stay together.

    ``groups`` are the names of the images' groups.

    Raises:
        ValueError: If there are too few groups for three splits.
    """
    n, parts = len(groups), len(set(groups))
    few = (
        f"The {n} images are taken for images of {counted(parts, 'part')}, too few for three splits: take images of "
        "more parts, or change --group-by."
    )
    if parts < _SPLITS:
        raise ValueError(few)
    _, selection, calibration = counts(n, rate)
    rest, calibrating = hold_out(n, calibration / n, seed, groups)
    inner = [groups[index] for index in rest]
    if len(set(inner)) < _SPLITS - 1:
        raise ValueError(few)
    training, selecting = hold_out(len(rest), selection / len(rest), seed + 1, inner)
    found = Splits([rest[i] for i in training], [rest[i] for i in selecting], list(calibrating))
    if min(len(found.training), len(found.selection), len(found.calibration)) < _LEAST_OF_GROUPS:
        sizes = f"{len(found.training)}, {len(found.selection)} and {len(found.calibration)}"
        msg = (
            f"{parts} groups of {n} images give splits of {sizes} images: each needs {_LEAST_OF_GROUPS}. "
            "Take images of more parts, or change --group-by."
        )
        raise ValueError(msg)
    return found
