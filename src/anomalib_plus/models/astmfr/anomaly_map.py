"""From distances per level to a smooth anomaly map."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.blur import GaussianBlur

LARGEST_DISTANCE = 2.0


def unit_vectors(features: Tensor) -> Tensor:
    """Scale the vector at every position of (B, C, h, w) to length 1, in float32."""
    return F.normalize(features.float(), dim=1)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the unit vectors at every position (eq. 3), which is 1 - cosine (eq. 1).

    The two are one number, with one gradient; this form keeps small distances exact, where ``1 - cosine`` cancels. An
    all-zero vector is the only exception: 0.5 instead of 1.

    Args:
        student: (B, C, h, w).
        teacher: (B, C, h, w); of any scale, like the student's.

    Returns:
        (B, 1, h, w) in [0, 2], float32.
    """
    return (unit_vectors(student) - unit_vectors(teacher)).square().sum(dim=1, keepdim=True) / 2


class AnomalyMapGenerator(nn.Module):
    """Mean of the upsampled distances, smoothed, in [0, 1] (the paper sums: see :meth:`paper_range`).

    Args:
        sigma: Standard deviation of the Gaussian in pixels; 0 switches it off. Borders are reflected.
        pool_size: Side of the average pooling that follows, odd; 0 or 1 switches it off. Only pixels of the map count.

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
        """By what to multiply a map or score to get the paper's, which ranges over [0, 12] with three levels."""
        return LARGEST_DISTANCE * (1 + l2_weight) * num_levels

    def smooth(self, maps: Tensor) -> Tensor:
        """Blur (B, 1, H, W)."""
        maps = self.blur(maps)
        if self.pool_size > 1:
            maps = F.avg_pool2d(maps, self.pool_size, 1, self.pool_size // 2, count_include_pad=False)
        return maps

    def forward(self, distances: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Turn distances (B, 1, h, w) in [0, 2], one per level, into maps (B, 1, H, W) in [0, 1]."""
        resized = [F.interpolate(distance, size, mode="bilinear", align_corners=False) for distance in distances]
        total = sum(resized[1:], start=resized[0])
        # Rounding must not leave [0, 1]: torchmetrics would take the scores for logits.
        return (self.smooth(total) / (LARGEST_DISTANCE * len(distances))).clamp(0, 1)
