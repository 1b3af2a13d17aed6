"""Anomaly map and image score from an image and its reconstruction."""

import math

import torch
from torch import Tensor, nn

from anomalib_plus.layers.blur import GaussianBlur


class AnomalyMapGenerator(nn.Module):
    """Blurred distance of each pixel's colour from its reconstruction; its maximum is the score (TSDN, section 3).

    Args:
        sigma: Standard deviation of the Gaussian in pixels; 0 or None disables it.

    Raises:
        ValueError: If ``sigma`` is negative.
    """

    def __init__(self, sigma: float | None = 4.0) -> None:
        super().__init__()
        self.blur = GaussianBlur(sigma or 0.0)

    def forward(self, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
        """Compare two batches (B, 3, H, W) in [0, 1]; return scores (B,) and maps (B, 1, H, W), both in [0, 1].

        The Euclidean distance of two colours is divided by its maximum, the square root of three.
        """
        distance = torch.linalg.vector_norm(images - reconstructions, dim=1, keepdim=True) / math.sqrt(images.shape[1])
        # Rounding in the blur can leave [0, 1], and torchmetrics takes such scores for logits.
        anomaly_map = self.blur(distance).clamp(0, 1)
        return anomaly_map.amax(dim=(1, 2, 3)), anomaly_map
