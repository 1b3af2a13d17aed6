"""Checks of arguments and inputs that several models share."""

from collections.abc import Sequence
from typing import get_args

from torch import Tensor

_RANGE_TOLERANCE = 1e-3


def check_input_size(
    images: Tensor, divisor: int, model_name: str, minimum: int = 1, channels: Sequence[int] = (3,)
) -> None:
    """Raise ``ValueError`` unless images are (B, C, H, W) with C in ``channels`` and a valid size.

    Height and width must be divisible by ``divisor`` and at least ``minimum``.
    """
    if images.ndim != 4 or images.shape[1] not in channels:
        count = " or ".join(map(str, channels))
        msg = (
            f"{model_name} needs a batch of images (B, {count}, H, W), got shape {tuple(images.shape)}. Pass colour "
            "images as RGB, and repeat the channel of grey ones: images.expand(-1, 3, -1, -1)."
        )
        raise ValueError(msg)
    height, width = images.shape[-2:]
    if height % divisor or width % divisor or min(height, width) < minimum:
        nearest = tuple(max(round(size / divisor), -(-minimum // divisor), 1) * divisor for size in (height, width))
        msg = (
            f"{model_name} needs an image height and width divisible by {divisor} and of at least {minimum} pixels, "
            f"got {height}x{width}. Resize to {nearest[0]}x{nearest[1]}, for example with "
            f"pre_processor={model_name}.configure_pre_processor({nearest})."
        )
        raise ValueError(msg)


def check_choice(argument: str, value: str, choices: object) -> None:
    """Raise ``ValueError`` unless ``value`` is one of the strings of the Literal type ``choices``."""
    allowed = get_args(choices)
    if value not in allowed:
        msg = f"{argument} must be one of {', '.join(allowed)}, got {value!r}."
        raise ValueError(msg)


def check_value_range(images: Tensor, model_name: str) -> None:
    """Raise ``ValueError`` unless all values lie in [0, 1] and none is NaN."""
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        msg = (
            f"{model_name} needs images in [0, 1], but a batch has values from {low:.3g} to {high:.3g}. Remove "
            f"Normalize from the pre-processor and the augmentations ({model_name}.configure_pre_processor() only "
            "resizes), or divide 8-bit values by 255."
        )
        raise ValueError(msg)


def check_focal_arguments(gamma: float, alpha: float | None) -> None:
    """Raise ``ValueError`` unless ``gamma`` is 0 or at least 1 and ``alpha`` None or in [0, 1].

    With an exponent between 0 and 1, the gradient of the focal loss is NaN at pixels that are predicted with certainty.
    """
    if not (gamma == 0 or gamma >= 1):
        msg = f"focal_gamma must be 0 or at least 1, got {gamma}."
        raise ValueError(msg)
    if alpha is not None and not 0 <= alpha <= 1:
        msg = f"focal_alpha must be None or lie in [0, 1], got {alpha}."
        raise ValueError(msg)
