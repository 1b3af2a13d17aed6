"""Gaussian and mean filters for anomaly maps."""

import kornia
import torch.nn.functional as F
from torch import Tensor, nn


class GaussianBlur(nn.Module):
    """Gaussian filter of maps (B, 1, H, W) with reflected borders; separable, unlike anomalib's.

    Args:
        sigma: Standard deviation in pixels; 0 disables the filter.
        kernel_size: Side of the window, odd; 0 disables the filter. None for four deviations to each side, as in
            anomalib.

    Raises:
        ValueError: If ``sigma`` or the side is negative, or the side even.
    """

    kernel: Tensor | None

    def __init__(self, sigma: float, kernel_size: int | None = None) -> None:
        super().__init__()
        if sigma < 0:
            msg = f"sigma must not be negative (0 switches smoothing off), got {sigma}."
            raise ValueError(msg)
        if kernel_size is None:
            kernel_size = 2 * int(4 * sigma + 0.5) + 1
        if kernel_size < 0 or (kernel_size and kernel_size % 2 == 0):
            msg = f"smoothing_kernel must be odd and positive (or 0 to switch smoothing off), got {kernel_size}."
            raise ValueError(msg)
        smooths = sigma > 0 and kernel_size > 1
        kernel = kornia.filters.get_gaussian_kernel1d(kernel_size, sigma) if smooths else None
        # Not persistent: a checkpoint must load whatever smoothing the model is built with.
        self.register_buffer("kernel", kernel, persistent=False)
        self.smallest_map = kernel_size // 2 + 1 if smooths else 1
        """Smallest height and width, which the reflection at the border needs."""

    def forward(self, maps: Tensor) -> Tensor:
        """Blur (B, 1, H, W)."""
        if self.kernel is None:
            return maps
        kernel = self.kernel.to(maps.dtype)
        return kornia.filters.filter2d_separable(maps, kernel, kernel, border_type="reflect")


def mean_filter(maps: Tensor, kernel_size: int) -> Tensor:
    """Average maps (B, C, H, W) over a square window of odd side, with zero padding, which lowers values at the border.

    One pass per axis: 2.5 times as fast on a CPU as ``kornia.filters.box_blur`` for 21 pixels in 256x256 images.
    """
    padding = kernel_size // 2
    rows = F.avg_pool2d(maps, (kernel_size, 1), stride=1, padding=(padding, 0))
    return F.avg_pool2d(rows, (1, kernel_size), stride=1, padding=(0, padding))
