"""Anomaly map and image score from an image and its reconstruction (RB-AE, eq. 10 and 11)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.blur import mean_filter
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.layers.similarity import ssim_map

Discriminator = Literal["msfdm", "pixel", "msfr", "ssim"]
COMPARED_LAYERS = 3
"""Number of layers, the first ones, whose features are compared."""


def weighted_map(level_maps: Sequence[Tensor], weights: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Weighted sum of maps (B, 1, H_i, W_i) after bilinear resizing to ``size``; (B, 1, H, W) (eq. 11)."""
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

    The sum ``d`` has no upper bound. The result is ``d / (1 + d)``, which has the same order and lies in [0, 1).

    Args:
        image_features: (B, C_i, H_i, W_i) per layer.
        reconstruction_features: Same shapes.
        size: Height and width of the result.

    Returns:
        (B, 1, H, W).
    """
    pairs = zip(image_features, reconstruction_features, strict=True)
    residuals = [(a - b).square().mean(dim=1, keepdim=True) for a, b in pairs]
    distance = torch.stack([_resize(residual, size) for residual in residuals]).sum(dim=0)
    return distance / (1 + distance)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)


class AnomalyMapGenerator(nn.Module):
    """Anomaly maps (B, 1, H, W) and image scores (B,) in [0, 1], by one of four comparisons (Table V).

    Args:
        map_weights: Weights of the MSFDM's maps, one per compared layer (eq. 11).
        score_pool: Side of the mean filter whose maximum is the image score (odd); 0 for the map's maximum.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, map_weights: Sequence[float] = (0.2, 0.2, 0.6), score_pool: int = 0) -> None:
        super().__init__()
        if len(map_weights) != COMPARED_LAYERS or min(map_weights) < 0 or not 0 < sum(map_weights) <= 1 + 1e-6:
            msg = (
                f"map_weights must be {COMPARED_LAYERS} numbers >= 0 whose sum is positive and does not exceed 1, got "
                f"{tuple(map_weights)}."
            )
            raise ValueError(msg)
        if score_pool < 0 or (score_pool and score_pool % 2 == 0):
            msg = f"score_pool must be odd, or 0 for the plain maximum, got {score_pool}."
            raise ValueError(msg)
        self.map_weights = tuple(map_weights)
        self.score_pool = score_pool

    def forward(
        self,
        kind: Discriminator,
        images: Tensor,
        reconstructions: Tensor,
        features: tuple[Sequence[Tensor], Sequence[Tensor]] = ((), ()),
        level_maps: Sequence[Tensor] = (),
    ) -> Tensor:
        """Compare images and reconstructions in float32.

        Args:
            kind: Kind of comparison.
            images: (B, 3, H, W) in [0, 1].
            reconstructions: (B, 3, H, W) in [0, 1].
            features: Features of both, per compared layer; for "msfr".
            level_maps: Probabilities (B, 1, H_i, W_i) per compared layer; for "msfdm".
        """
        size = (images.shape[-2], images.shape[-1])
        with full_precision(images.device.type):
            if kind == "msfdm":
                # Rounding can leave [0, 1], and torchmetrics takes such scores for logits.
                return weighted_map(level_maps, self.map_weights, size).clamp(0, 1)
            if kind == "msfr":
                first, second = ([layer.float() for layer in side] for side in features)
                return feature_residual_map(first, second, size)
            distance = pixel_map if kind == "pixel" else ssim_distance_map
            return distance(images.float(), reconstructions.float())

    def score(self, maps: Tensor) -> Tensor:
        """Compute the maximum of maps (B, 1, H, W) in [0, 1], or of their local means; (B,) in [0, 1]."""
        pooled = mean_filter(maps, self.score_pool).clamp(0, 1) if self.score_pool else maps
        return pooled.amax(dim=(1, 2, 3))
