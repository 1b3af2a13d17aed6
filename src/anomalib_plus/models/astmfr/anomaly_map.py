"""Anomaly map from the distances of feature maps."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.blur import GaussianBlur

LARGEST_DISTANCE = 2.0


def unit_vectors(features: Tensor) -> Tensor:
    """Normalise the vector at every location of (B, C, h, w) to length 1, in float32."""
    return F.normalize(features.float(), dim=1)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the unit vectors at every location (eq. 3), which equals 1 - cosine (eq. 1).

    Values and gradients are equal, but this form computes small distances exactly, where ``1 - cosine`` loses digits.
    The only exception are all-zero vectors: 0.5 instead of 1.

    Args:
        student: (B, C, h, w), of any scale.
        teacher: (B, C, h, w), of any scale.

    Returns:
        (B, 1, h, w) in [0, 2], float32.
    """
    return (unit_vectors(student) - unit_vectors(teacher)).square().sum(dim=1, keepdim=True) / 2


class AnomalyMapGenerator(nn.Module):
    """Smoothed mean of the upsampled distances, in [0, 1]; the paper has their sum, see :meth:`paper_range`.

    Args:
        sigma: Standard deviation of the Gaussian in pixels; 0 disables it. Borders are reflected.
        pool_size: Side of the average pooling after it, odd; 0 or 1 disables it. Padding is not counted.

    Raises:
        ValueError: If an argument is negative or the side is even.
    """

    def __init__(self, sigma: float = 4.0, pool_size: int = 5) -> None:
        super().__init__()
        if sigma < 0 or pool_size < 0 or (pool_size and pool_size % 2 == 0):
            msg = f"sigma must not be negative and pool_size must be odd or 0, got {sigma} and {pool_size}."
            raise ValueError(msg)
        self.pool_size = pool_size
        self.blur = GaussianBlur(sigma)
        self.smallest_map = self.blur.smallest_map

    @staticmethod
    def paper_range(num_levels: int, l2_weight: float = 1.0) -> float:
        """Factor from these maps and scores to the paper's, which are in [0, 12] for three levels."""
        return LARGEST_DISTANCE * (1 + l2_weight) * num_levels

    def smooth(self, maps: Tensor) -> Tensor:
        """Blur (B, 1, H, W)."""
        maps = self.blur(maps)
        if self.pool_size > 1:
            maps = F.avg_pool2d(maps, self.pool_size, 1, self.pool_size // 2, count_include_pad=False)
        return maps

    def forward(self, distances: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Combine distances (B, 1, h, w) in [0, 2], one per level, to maps (B, 1, H, W) in [0, 1]."""
        resized = [F.interpolate(distance, size, mode="bilinear", align_corners=False) for distance in distances]
        total = sum(resized[1:], start=resized[0])
        # Rounding can leave [0, 1], and torchmetrics takes such scores for logits.
        return (self.smooth(total) / (LARGEST_DISTANCE * len(distances))).clamp(0, 1)
