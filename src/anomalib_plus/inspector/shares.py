"""Shares of the good images: training, choice of the model, calibration of the threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_IMAGES = 20
_LEAST_CHOICE = _LEAST_CALIBRATION = 5
_LEAST_OF_GROUPS = 3
"""Least images of a share whose size groups have changed."""
_PARTS = 3
_MOST_CHOICE = 100
_SHARE = 0.2
_ENOUGH_TRAINING = 72
"""Training images from which further ones rather support a lower false-alarm rate."""


@dataclass(frozen=True)
class Shares:
    """Indices of the images of each share."""

    training: list[int]
    choice: list[int]
    calibration: list[int]


def counts(n: int, rate: float) -> tuple[int, int, int]:
    """Return the numbers of images for training, choice and calibration.

    60, 20 and 20 percent; from 72 training images on, calibration gets more until it supports the rate, as long as 40
    percent remain for training.

    Raises:
        ValueError: If there are fewer than 20 images.
    """
    if n < LEAST_IMAGES:
        msg = (
            f"{n} usable good images are too few: {LEAST_IMAGES} are the least, of which half train and the others "
            "choose the model and its threshold. Take more."
        )
        raise ValueError(msg)
    from anomalib_plus.post_processing.conformal_math import images_needed

    choice = min(max(round(_SHARE * n), _LEAST_CHOICE), _MOST_CHOICE)
    kept = round(min((1 - 2 * _SHARE) * n, max(_ENOUGH_TRAINING, 2 * _SHARE * n)))
    calibration = max(round(_SHARE * n), _LEAST_CALIBRATION, min(images_needed(rate), n - choice - kept))
    return n - choice - calibration, choice, calibration


def divide(groups: Sequence[str], rate: float, seed: int) -> Shares:
    """Divide images; those of one group stay together.

    Args:
        groups: Name of the group of each image.
        rate: False-alarm rate that the calibration should support.
        seed: Seed of the draw.

    Raises:
        ValueError: If there are fewer than 20 images, or too few groups for three shares.
    """
    from anomalib_plus.validation import hold_out

    n, parts = len(groups), len(set(groups))
    few = (
        f"The {n} images are taken for images of {parts} parts, too few for three shares: take images of more parts, "
        "or change --group-by."
    )
    if parts < _PARTS:
        raise ValueError(few)
    _, choice, calibration = counts(n, rate)
    rest, calibrating = hold_out(n, calibration / n, seed, groups)
    inner = [groups[index] for index in rest]
    if len(set(inner)) < _PARTS - 1:
        raise ValueError(few)
    training, choosing = hold_out(len(rest), choice / len(rest), seed + 1, inner)
    found = Shares([rest[i] for i in training], [rest[i] for i in choosing], list(calibrating))
    if min(len(found.training), len(found.choice), len(found.calibration)) < _LEAST_OF_GROUPS:
        sizes = f"{len(found.training)}, {len(found.choice)} and {len(found.calibration)}"
        msg = (
            f"{parts} groups of {n} images give shares of {sizes} images: each needs {_LEAST_OF_GROUPS}. "
            "Take images of more parts, or change --group-by."
        )
        raise ValueError(msg)
    return found
