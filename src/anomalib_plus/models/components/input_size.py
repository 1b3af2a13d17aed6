"""The public size rule of a network, checked once with a message that helps."""

from torch import Tensor


def check_input_size(images: Tensor, divisor: int, model_name: str, minimum: int = 1) -> None:
    """Raise ``ValueError`` unless height and width of (B, C, H, W) are at least ``minimum`` and divisible."""
    height, width = images.shape[-2:]
    if height % divisor or width % divisor or min(height, width) < minimum:
        nearest = tuple(max(round(size / divisor), -(-minimum // divisor), 1) * divisor for size in (height, width))
        msg = (
            f"{model_name} needs an image height and width divisible by {divisor} and of at least {minimum} pixels, "
            f"got {height}x{width}. Resize to {nearest[0]}x{nearest[1]}, for example with "
            f"pre_processor={model_name}.configure_pre_processor({nearest})."
        )
        raise ValueError(msg)
