"""Per-element choice between a feature map and its repaired versions (FFM, eq. 7 and 8)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomalib_plus.layers.precision import full_precision
from anomalib_plus.models.rbae.autoencoder import ConvBlock
from anomalib_plus.models.rbae.reference_attention import attend_to_reference


class FeatureFusion(nn.Module):
    """Mixes branches with weights that sum to 1 at every channel and position.

    Args:
        channels: Channels of each branch.
        num_branches: The feature map and its repaired versions.
        hidden_channels: Width between the two convolutions.
        kernel_size: Side of both (odd); larger than the largest patch in the paper.
    """

    def __init__(self, channels: int, num_branches: int = 3, hidden_channels: int = 64, kernel_size: int = 5) -> None:
        super().__init__()
        self.num_branches = num_branches
        self.squeeze = ConvBlock(channels, hidden_channels, kernel_size)
        self.excite = nn.Conv2d(hidden_channels, num_branches * channels, kernel_size, padding=kernel_size // 2)

    def weights(self, branches: Tensor) -> Tensor:
        """Weights of the branches (B, branches, C, H, W): same shape, in [0, 1], summing to 1 over the branches."""
        scores = self.excite(self.squeeze(branches.sum(dim=1)))
        return scores.unflatten(1, (self.num_branches, -1)).softmax(dim=1)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """Fuse branches of (B, C, H, W) each to (B, C, H, W)."""
        stacked = torch.stack(tuple(branches), dim=1)
        return (self.weights(stacked) * stacked).sum(dim=1)


class FeatureRepair(nn.Module):
    """RBAM of one layer: reference attention at several patch sizes, fused with the feature map itself.

    Args:
        channels: Channels of the layer.
        patch_sizes: Sides of the patches, one repaired version each.
        temperature: See :func:`~anomalib_plus.models.rbae.reference_attention.attend_to_reference`.
        hidden_channels: See :class:`FeatureFusion`.
        kernel_size: See there.
    """

    def __init__(
        self,
        channels: int,
        patch_sizes: Sequence[int] = (2, 4),
        temperature: float = 1.0,
        hidden_channels: int = 64,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.patch_sizes = tuple(patch_sizes)
        self.temperature = temperature
        self.fusion = FeatureFusion(channels, len(self.patch_sizes) + 1, hidden_channels, kernel_size)

    def forward(self, features: Tensor, reference: Tensor) -> Tensor:
        """Repair (B, C, H, W) with the features (1, C, H', W') of the reference image; (B, C, H, W).

        The attention computes in float32: rounding a cosine to half precision would blur a sharp softmax.
        """
        with full_precision(features.device.type):
            values, clean = features.float(), reference.float()
            repaired = [attend_to_reference(values, clean, size, self.temperature) for size in self.patch_sizes]
        return self.fusion([*repaired, features])
