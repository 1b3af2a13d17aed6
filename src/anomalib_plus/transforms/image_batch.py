"""The input of every transform: one image or a batch, floating point."""

from torch import Tensor


def as_image_batch(images: Tensor) -> Tensor:
    """Give ``images`` the shape (B, C, H, W); the caller undoes it for a single image (``images.ndim == 3``).

    Args:
        images: Float images, (C, H, W) or (B, C, H, W), values in [0, 1].

    Raises:
        ValueError: If the shape is another one or the values are not floating point.
    """
    if images.ndim not in {3, 4}:
        msg = f"Expected one image (C, H, W) or a batch (B, C, H, W), got shape {tuple(images.shape)}."
        raise ValueError(msg)
    if not images.is_floating_point():
        msg = f"Expected floating point images in [0, 1], got {images.dtype}. Divide 8-bit images by 255 first."
        raise ValueError(msg)
    return images if images.ndim == 4 else images.unsqueeze(0)
