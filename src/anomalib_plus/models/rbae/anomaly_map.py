"""Anomaly map and image score from an image and its reconstruction (RB-AE, eq. 10 and 11)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from anomalib_plus.layers.blur import GaussianBlur, mean_filter
from anomalib_plus.layers.checks import check_choice
from anomalib_plus.layers.paper_size import PaperSize
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.layers.similarity import ssim_map
from anomalib_plus.layers.switchable_map import SwitchableMap

Discriminator = Literal["msfdm", "pixel", "msfr", "ssim"]
MapType = Literal["paper", "logits"]

LOGITS_SIGMA = PaperSize(4.0, 256)
"""Deviation of the Gaussian over the logits; ours, because the paper has no such map."""
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


class AnomalyMapGenerator(SwitchableMap):
    """Anomaly maps (B, 1, H, W) and image scores (B,) in [0, 1], by one of four comparisons (Table V).

    Args:
        discriminator: Comparison of image and reconstruction.
        map_type: The discriminator's own map ("paper"), for the MSFDM the weighted sum of its probabilities (eq. 11),
            or the probability of the mean of its logits after a Gaussian ("logits"), which ignores ``map_weights``; may
            be changed at any time, it has no parameters.
        sigma: Standard deviation of that Gaussian in pixels; None for 4 at 256 pixels, scaled; 0 switches it off.
        map_weights: Weights of the MSFDM's maps, one per compared layer (eq. 11).
        score_pool: Side of the mean filter whose maximum is the image score (odd); 0 for the map's maximum.

    Raises:
        ValueError: If an argument is out of range, or there is no such map or discriminator.
    """

    map_types: ClassVar[object] = MapType

    def __init__(
        self,
        discriminator: Discriminator = "msfdm",
        map_type: MapType = "paper",
        sigma: float | None = None,
        map_weights: Sequence[float] = (0.2, 0.2, 0.6),
        score_pool: int = 0,
    ) -> None:
        super().__init__()
        check_choice("discriminator", discriminator, Discriminator)
        if len(map_weights) != COMPARED_LAYERS or min(map_weights) < 0 or not 0 < sum(map_weights) <= 1 + 1e-6:
            msg = (
                f"map_weights must be {COMPARED_LAYERS} numbers >= 0 whose sum is positive and does not exceed 1, got "
                f"{tuple(map_weights)}."
            )
            raise ValueError(msg)
        if score_pool < 0 or (score_pool and score_pool % 2 == 0):
            msg = f"score_pool must be odd, or 0 for the plain maximum, got {score_pool}."
            raise ValueError(msg)
        self.discriminator: Discriminator = discriminator
        self.blur = GaussianBlur(LOGITS_SIGMA if sigma is None else sigma)
        self.map_weights = tuple(map_weights)
        self.score_pool = score_pool
        self.map_type = map_type

    def check_map(self, map_type: str) -> None:
        """Raise ``ValueError`` if the map shows the MSFDM's logits but the network has none."""
        if map_type == "logits" and self.discriminator != "msfdm":
            msg = f"anomaly_map='logits' needs discriminator='msfdm', got {self.discriminator!r}."
            raise ValueError(msg)

    @property
    def smallest_map(self) -> int:
        """Height and width must reach this."""
        return self.blur.smallest_map if self.map_type == "logits" else 1

    def forward(
        self,
        kind: Discriminator,
        images: Tensor,
        reconstructions: Tensor,
        features: tuple[Sequence[Tensor], Sequence[Tensor]] = ((), ()),
        logits: Sequence[Tensor] = (),
    ) -> Tensor:
        """Compare images and reconstructions in float32.

        Args:
            kind: Kind of comparison.
            images: (B, 3, H, W) in [0, 1].
            reconstructions: (B, 3, H, W) in [0, 1].
            features: Features of both, per compared layer; for "msfr".
            logits: The MSFDM's (B, 1, H_i, W_i) per compared layer; for "msfdm".
        """
        size = (images.shape[-2], images.shape[-1])
        with full_precision(images.device.type):
            if kind == "msfdm":
                levels = [level.float() for level in logits]
                if self.map_type == "logits":
                    mean = weighted_map(levels, [1 / COMPARED_LAYERS] * COMPARED_LAYERS, size)
                    return self.blur(mean).sigmoid()
                # Rounding can leave [0, 1], and torchmetrics takes such scores for logits.
                return weighted_map([level.sigmoid() for level in levels], self.map_weights, size).clamp(0, 1)
            if kind == "msfr":
                first, second = ([layer.float() for layer in side] for side in features)
                return feature_residual_map(first, second, size)
            distance = pixel_map if kind == "pixel" else ssim_distance_map
            return distance(images.float(), reconstructions.float())

    def score(self, maps: Tensor) -> Tensor:
        """Compute the maximum of maps (B, 1, H, W) in [0, 1], or of their local means; (B,) in [0, 1]."""
        pooled = mean_filter(maps, self.score_pool).clamp(0, 1) if self.score_pool else maps
        return pooled.amax(dim=(1, 2, 3))
