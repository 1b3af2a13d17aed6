"""Decoder of TSDN, which has two of them that differ in their number of output channels."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation


class DecoderBlock(nn.Module):
    """Transposed convolution (x2), concatenation of a skip connection, convolution."""

    def __init__(self, in_channels: int, out_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.refine = Conv2dNormActivation(out_channels + skip_channels, out_channels, kernel_size=3)

    def forward(self, features: Tensor, skip: Tensor | None) -> Tensor:
        """Map (B, in, H, W) and a skip (B, skip, 2H, 2W), or None, to (B, out, 2H, 2W)."""
        features = self.upsample(features)
        return self.refine(features if skip is None else torch.cat([features, skip], dim=1))


class Decoder(nn.Module):
    """Decode the bottleneck to an image or mask in (0, 1) (TSDN, section 3).

    Args:
        in_channels: Channels of the bottleneck.
        channels: Output channels of each block; every block doubles the size.
        skip_channels: Channels of each block's skip connection, 0 for none.
        out_channels: Channels of the output.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], skip_channels: Sequence[int], out_channels: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DecoderBlock(before, after, skip)
            for (before, after), skip in zip(pairwise([in_channels, *channels]), skip_channels, strict=True)
        )
        self.head = nn.Sequential(nn.Conv2d(channels[-1], out_channels, kernel_size=3, padding=1), nn.Sigmoid())

    def forward(self, features: Tensor, skips: Sequence[Tensor | None]) -> Tensor:
        """Map (B, in_channels, H, W) and a skip or None for each of n blocks to (B, out_channels, H * 2^n, W * 2^n)."""
        for block, skip in zip(self.blocks, skips, strict=True):
            features = block(features, skip)
        return self.head(features)
