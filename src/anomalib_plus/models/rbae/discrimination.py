"""Small networks that compare features of an image with features of its reconstruction (MSFDM)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomalib_plus.models.rbae.autoencoder import ConvBlock


class FeatureDiscriminator(nn.Sequential):
    """Logits of an anomaly from the features of one layer (B, 2C, H, W), image first; (B, 1, H, W)."""

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        super().__init__(
            ConvBlock(2 * channels, hidden_channels, kernel_size=1),
            ConvBlock(hidden_channels, hidden_channels),
            ConvBlock(hidden_channels, hidden_channels // 2),
            nn.Conv2d(hidden_channels // 2, 1, kernel_size=1),
        )


class MultiScaleDiscriminator(nn.Module):
    """One :class:`FeatureDiscriminator` for each of the first layers.

    Args:
        widths: Channels of these layers.
        hidden_channels: Width of the sub-networks, at least 2.
    """

    def __init__(self, widths: Sequence[int], hidden_channels: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FeatureDiscriminator(width, hidden_channels) for width in widths)

    def forward(self, image_features: Sequence[Tensor], reconstruction_features: Sequence[Tensor]) -> list[Tensor]:
        """Compare two lists of (B, C, H, W), one entry per layer; give logits (B, 1, H, W) per layer."""
        pairs = zip(self.layers, image_features, reconstruction_features, strict=True)
        return [layer(torch.cat([image, reconstruction], dim=1)) for layer, image, reconstruction in pairs]
