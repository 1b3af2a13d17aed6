"""Checks of arguments and inputs that several models share."""

from collections.abc import Sequence
from typing import get_args

from torch import Tensor


def check_input_size(
    images: Tensor, divisor: int, model_name: str, minimum: int = 1, channels: Sequence[int] = (3,)
) -> None:
    """Raise ``ValueError`` unless images are (B, C, H, W) with C in ``channels`` and a size that suits the network.

    Height and width must be divisible by ``divisor`` and at least ``minimum``.
    """
    if images.ndim != 4 or images.shape[1] not in channels:
        count = " or ".join(map(str, channels))
        msg = (
            f"{model_name} needs a batch of images (B, {count}, H, W), got shape {tuple(images.shape)}. Give colour "
            "images as RGB, and grey ones with their channel repeated: images.expand(-1, 3, -1, -1)."
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
