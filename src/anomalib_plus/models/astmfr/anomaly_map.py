"""Anomaly map from the distances of feature maps."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.paper_size import PaperSize, odd_pixels_at
from anomalib_plus.layers.switchable_map import SwitchableMap

MapType = Literal["sum", "product"]
Residual = Literal["paper", "whitened"]

LARGEST_DISTANCE = 2.0
PAPER_SIGMA = PaperSize(4.0, 256)
PAPER_POOL = PaperSize(5, 256)


def unit_vectors(features: Tensor) -> Tensor:
    """Normalise the vector at every location of (B, C, h, w) to length 1, in float32."""
    return F.normalize(features.float(), dim=1)


def unit_residual(student: Tensor, teacher: Tensor) -> Tensor:
    """Difference of the unit vectors of two feature maps (B, C, h, w) of any scale; same shape, float32."""
    return unit_vectors(student) - unit_vectors(teacher)


def residual_distance(residual: Tensor) -> Tensor:
    """Half the squared length of the vector at every location of (B, C, h, w); (B, 1, h, w)."""
    return residual.square().sum(dim=1, keepdim=True) / 2


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
    return residual_distance(unit_residual(student, teacher))


class AnomalyMapGenerator(SwitchableMap):
    """Smoothed mean of the upsampled distances, in [0, 1]; the paper has their sum, see :meth:`paper_range`.

    Args:
        sigma: Standard deviation of the Gaussian in pixels; None for 4 at 256 pixels, scaled; 0 disables it. Borders
            are reflected.
        pool_size: Side of the average pooling after it, odd; None for 5 at 256 pixels, scaled; 0 or 1 disables it.
            Padding is not counted.
        map_type: The levels' mean ("sum", the paper's up to a factor) or geometric mean ("product"); may be changed at
            any time, it has no parameters.
        bounded: Distances lie in [0, 2]; False for distances without an upper bound, whose map is ``d / (1 + d)``.

    Raises:
        ValueError: If an argument is negative, the side is even, or there is no such map.
    """

    map_types: ClassVar[object] = MapType

    def __init__(
        self,
        sigma: float | None = None,
        pool_size: int | None = None,
        map_type: MapType = "sum",
        bounded: bool = True,
    ) -> None:
        super().__init__()
        if (sigma or 0) < 0 or (pool_size or 1) < 0 or (pool_size or 1) % 2 == 0:
            msg = f"sigma must not be negative and pool_size must be odd or 0, got {sigma} and {pool_size}."
            raise ValueError(msg)
        self.pool_size = PAPER_POOL if pool_size is None else max(pool_size, 1)
        self.blur = GaussianBlur(PAPER_SIGMA if sigma is None else sigma)
        self.smallest_map = self.blur.smallest_map
        self.bounded = bounded
        self.map_type = map_type

    @staticmethod
    def paper_range(num_levels: int, l2_weight: float = 1.0) -> float:
        """Factor from these maps and scores to the paper's, which are in [0, 12] for three levels."""
        return LARGEST_DISTANCE * (1 + l2_weight) * num_levels

    def smooth(self, maps: Tensor) -> Tensor:
        """Blur (B, 1, H, W)."""
        height, width = (odd_pixels_at(self.pool_size, length) for length in maps.shape[-2:])
        maps = self.blur(maps)
        if height == width == 1:
            return maps
        return F.avg_pool2d(maps, (height, width), 1, (height // 2, width // 2), count_include_pad=False)

    def forward(self, distances: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Combine distances (B, 1, h, w), one per level, to maps (B, 1, H, W) in [0, 1]."""
        resized = [F.interpolate(distance, size, mode="bilinear", align_corners=False) for distance in distances]
        levels = torch.stack(resized)
        product = self.map_type == "product"
        smooth = self.smooth(levels.prod(dim=0) ** (1 / len(distances)) if product else levels.mean(dim=0))
        if not self.bounded:
            return smooth / (1 + smooth)
        # Rounding can leave [0, 1], and torchmetrics takes such scores for logits.
        return (smooth / LARGEST_DISTANCE).clamp(0, 1)
