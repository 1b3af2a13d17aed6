"""Local mean of a map."""

import torch.nn.functional as F
from torch import Tensor


def mean_filter(maps: Tensor, kernel_size: int) -> Tensor:
    """Average (B, C, H, W) over a square window of odd side; zeros around the border count, so it is damped.

    One pass per axis: at 21 pixels a tenth of the work of the square window.
    """
    padding = kernel_size // 2
    rows = F.avg_pool2d(maps, (kernel_size, 1), stride=1, padding=(padding, 0))
    return F.avg_pool2d(rows, (1, kernel_size), stride=1, padding=(0, padding))
