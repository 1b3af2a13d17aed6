"""Gaussian and mean filters for anomaly maps."""

import kornia
import torch.nn.functional as F
from torch import Tensor, nn


class GaussianBlur(nn.Module):
    """Separable Gaussian over (B, 1, H, W), borders reflected: 33 + 33 multiplications where anomalib's takes 33 x 33.

    Args:
        sigma: Standard deviation in pixels; 0 leaves maps as they are.
        kernel_size: Side of the window, odd; by default it reaches four deviations to each side, as in anomalib. 0
            leaves maps as they are.

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
        # Not persistent: a checkpoint must load whatever smoothing is asked for.
        self.register_buffer("kernel", kernel, persistent=False)
        self.smallest_map = kernel_size // 2 + 1 if smooths else 1
        """Height and width must reach this for the reflection at the border."""

    def forward(self, maps: Tensor) -> Tensor:
        """Blur (B, 1, H, W)."""
        if self.kernel is None:
            return maps
        kernel = self.kernel.to(maps.dtype)
        return kornia.filters.filter2d_separable(maps, kernel, kernel, border_type="reflect")


def mean_filter(maps: Tensor, kernel_size: int) -> Tensor:
    """Average (B, C, H, W) over a square window of odd side; zeros around the border count, so it is damped.

    One pass per axis: for 21 pixels in 256x256 images 2.5 times as fast on a CPU as ``kornia.filters.box_blur``.
    """
    padding = kernel_size // 2
    rows = F.avg_pool2d(maps, (kernel_size, 1), stride=1, padding=(padding, 0))
    return F.avg_pool2d(rows, (1, kernel_size), stride=1, padding=(0, padding))
