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


def counts(n: int, wanted: int) -> tuple[int, int, int]:
    """Return the numbers of images for training, selection and calibration.

    60, 20 and 20 percent; from 72 training images on, calibration gets more until it has the ``wanted`` number, as long
    as 40 percent remain for training. ``n`` is at least ``LEAST_IMAGES``.
    """
    selection = min(max(round(_SHARE * n), _LEAST_SELECTION), _MOST_SELECTION)
    kept = round(min((1 - 2 * _SHARE) * n, max(_ENOUGH_TRAINING, 2 * _SHARE * n)))
    calibration = max(round(_SHARE * n), _LEAST_CALIBRATION, min(wanted, n - selection - kept))
    return n - selection - calibration, selection, calibration


def divide(groups: Sequence[str], rate: float, seed: int) -> Splits:
    """Split images at random by :func:`counts`; those of one group stay together.

    ``groups`` are the names of the images' groups. Calibration gets images until its groups support the rate.

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
    selection, rest, calibrating = _calibration(groups, images_needed(rate), seed)
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


def _calibration(groups: Sequence[str], needed: int, seed: int) -> tuple[int, list[int], list[int]]:
    """Hold images of the ``needed`` number of groups out for the calibration, as far as :func:`counts` allows.

    Returns:
        The number of images for the selection, the indices that remain, and those for the calibration.
    """
    wanted = needed
    while True:
        _, selection, calibration = counts(len(groups), wanted)
        rest, calibrating = hold_out(len(groups), calibration / len(groups), seed, groups)
        missing = needed - len({groups[index] for index in calibrating})
        if missing <= 0 or calibration < wanted:
            return selection, rest, calibrating
        wanted = calibration + missing  # each further image shows at most one more part
