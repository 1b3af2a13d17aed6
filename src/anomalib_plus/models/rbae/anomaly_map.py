"""From the network's comparison of image and reconstruction to an anomaly map and an image score."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.blur import mean_filter
from anomalib_plus.layers.similarity import ssim_map

Discriminator = Literal["msfdm", "pixel", "msfr", "ssim"]


def weighted_map(level_maps: Sequence[Tensor], weights: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Weighted sum of maps (B, 1, H_i, W_i), resized to ``size`` (bilinear); (B, 1, H, W) (eq. 11)."""
    return torch.stack([w * _resize(m, size) for m, w in zip(level_maps, weights, strict=True)]).sum(dim=0)


def pixel_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared difference of two batches (B, 3, H, W) in [0, 1], averaged over the channels; (B, 1, H, W) in [0, 1]."""
    return (images - reconstructions).square().mean(dim=1, keepdim=True)


def ssim_distance_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """``(1 - SSIM) / 2`` of two batches (B, 3, H, W) in [0, 1], averaged over the channels; (B, 1, H, W) in [0, 1]."""
    return ((1 - ssim_map(images, reconstructions)) / 2).mean(dim=1, keepdim=True).clamp(0, 1)


def feature_residual_map(
    image_features: Sequence[Tensor], reconstruction_features: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    """Multi-scale feature residual (MSFR): squared differences, averaged over channels, resized and added.

    The sum ``d`` has no upper bound and is given as ``d / (1 + d)``, which ranks alike and lies in [0, 1).

    Args:
        image_features: (B, C_i, H_i, W_i) per layer.
        reconstruction_features: Same shapes.
        size: Height and width of the result.

    Returns:
        (B, 1, H, W) in [0, 1).
    """
    pairs = zip(image_features, reconstruction_features, strict=True)
    residuals = [(a - b).square().mean(dim=1, keepdim=True) for a, b in pairs]
    distance = torch.stack([_resize(residual, size) for residual in residuals]).sum(dim=0)
    return distance / (1 + distance)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)


class ImageScore(nn.Module):
    """Largest value of an anomaly map, or of its local means.

    Args:
        score_pool: Side of the mean filter before the maximum (odd); 0 for none.

    Raises:
        ValueError: If ``score_pool`` is even or negative.
    """

    def __init__(self, score_pool: int = 0) -> None:
        super().__init__()
        if score_pool < 0 or (score_pool and score_pool % 2 == 0):
            msg = f"score_pool must be odd, or 0 for the plain maximum, got {score_pool}."
            raise ValueError(msg)
        self.score_pool = score_pool

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, 1, H, W) in [0, 1] to scores (B,) in [0, 1]."""
        pooled = mean_filter(maps, self.score_pool).clamp(0, 1) if self.score_pool else maps
        return pooled.amax(dim=(1, 2, 3))
