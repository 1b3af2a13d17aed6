"""RAMFAE's network: a convolutional autoencoder with a multi-scale focused bottleneck."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from timm.layers import create_attn
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from anomalib_plus.layers.checks import check_input_size
from anomalib_plus.layers.memory_layout import choose_memory_layout
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.models.ramfae.anomaly_map import AnomalyMapGenerator

SMALLEST_IMAGE = 16
"""Smallest height and width, which the map's four scales need."""


class RamFAEOutput(NamedTuple):
    """Output in training mode: reconstructions (B, C, H, W) in [0, 1]."""

    reconstruction: Tensor


class EncoderBlock(nn.Sequential):
    """Two convolutions with batch normalisation and ReLU; the first is 4x4 with stride 2 to downsample (Table 1)."""

    def __init__(self, in_channels: int, out_channels: int, downsample: bool) -> None:
        first = Conv2dNormActivation(
            in_channels, out_channels, kernel_size=4 if downsample else 3, stride=2 if downsample else 1
        )
        super().__init__(first, Conv2dNormActivation(out_channels, out_channels))


class DecoderBlock(nn.Module):
    """Transposed convolution (x2), then two convolutions with an identity skip."""

    def __init__(self, in_channels: int, out_channels: int, residual: bool = True) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
        self.refine = nn.Sequential(
            Conv2dNormActivation(out_channels, out_channels), Conv2dNormActivation(out_channels, out_channels)
        )
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, 2H, 2W)."""
        upsampled = self.upsample(features)
        refined = self.refine(upsampled)
        return upsampled + refined if self.residual else refined


class MultiScaleFocusedExtraction(nn.Module):
    """MFFE: parallel dilated convolutions and global pooling, concatenated, then coordinate attention (section 2.2).

    The pooled branch has no batch normalisation: its map is 1x1, which a training batch of one image cannot normalise.

    Args:
        channels: Input and output channels.
        branch_channels: Channels of each branch.
        dilation_rates: Dilation rates, one 3x3 branch each.
        attention: Apply coordinate attention.
        attention_reduction: Ratio of the attention's channels to its hidden channels, which are at least 8.
    """

    def __init__(
        self,
        channels: int,
        branch_channels: int,
        dilation_rates: Sequence[int] = (5, 7, 9),
        attention: bool = True,
        attention_reduction: int = 32,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                Conv2dNormActivation(channels, branch_channels, kernel_size=1),
                *(Conv2dNormActivation(channels, branch_channels, dilation=rate) for rate in dilation_rates),
            ]
        )
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, branch_channels, kernel_size=1), nn.ReLU(inplace=True)
        )
        self.project = Conv2dNormActivation((len(self.branches) + 1) * branch_channels, channels, kernel_size=1)
        hidden = max(8, channels // attention_reduction)
        self.attention = create_attn("coord", channels, rd_channels=hidden, bias=True) if attention else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        pooled = self.pooled(features).expand(-1, -1, *features.shape[-2:])
        extracted = torch.cat([*(branch(features) for branch in self.branches), pooled], dim=1)
        return self.attention(self.project(extracted))


class RamFAEModel(nn.Module):
    """RAMFAE as a plain network: images in [0, 1] in, reconstructions or anomaly maps out.

    Args: Those of :class:`~anomalib_plus.models.ramfae.lightning_model.RamFAE` of the same name, and ``map_generator``,
        which computes the anomaly map; the paper's MSGMS map if None.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    map_generator: AnomalyMapGenerator

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        mffe: bool = True,
        mffe_branch_width: int | None = None,
        dilation_rates: Sequence[int] = (5, 7, 9),
        coordinate_attention: bool = True,
        attention_reduction: int = 32,
        decoder_residual: bool = True,
        map_generator: AnomalyMapGenerator | None = None,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            msg = f"widths needs at least two positive widths, got {tuple(widths)}."
            raise ValueError(msg)
        if in_channels not in {1, 3}:
            msg = f"in_channels must be 3 (colour) or 1 (grey), got {in_channels}."
            raise ValueError(msg)
        if mffe_branch_width is not None and mffe_branch_width < 1:
            msg = f"mffe_branch_width must be positive (None means the bottleneck's), got {mffe_branch_width}."
            raise ValueError(msg)
        if min(dilation_rates, default=1) < 1:
            msg = f"dilation_rates must be positive, got {tuple(dilation_rates)}."
            raise ValueError(msg)
        if attention_reduction < 1:
            msg = f"attention_reduction must be positive, got {attention_reduction}."
            raise ValueError(msg)
        self.in_channels = in_channels
        self.image_channels = (1, 3) if in_channels == 1 else (3,)
        self.size_divisor = 2 ** (len(widths) - 1)
        self.encoder = nn.Sequential(
            EncoderBlock(in_channels, widths[0], downsample=False),
            *(EncoderBlock(before, after, downsample=True) for before, after in pairwise(widths)),
        )
        width = widths[-1]
        branch_width = width if mffe_branch_width is None else mffe_branch_width
        self.bottleneck = (
            MultiScaleFocusedExtraction(width, branch_width, dilation_rates, coordinate_attention, attention_reduction)
            if mffe
            else nn.Identity()
        )
        self.decoder = nn.Sequential(
            *(DecoderBlock(before, after, decoder_residual) for before, after in pairwise(reversed(widths)))
        )
        self.head = nn.Sequential(nn.Conv2d(widths[0], in_channels, kernel_size=3, padding=1), nn.Tanh())
        self.map_generator = map_generator or AnomalyMapGenerator()
        choose_memory_layout(self, widths[0])

    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, in_channels, H, W) in [0, 1]; the layers work in [-1, 1]."""
        output = self.head(self.decoder(self.bottleneck(self.encoder(2 * images - 1))))
        return (output + 1) / 2

    def reconstruct_images(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, 3, H, W) in [0, 1]; for figures."""
        return self.reconstruct(self.select_channels(images))

    def select_channels(self, images: Tensor) -> Tensor:
        """Average the channels of images (B, 3, H, W) if the network works on one channel."""
        return images.mean(dim=1, keepdim=True) if self.in_channels < images.shape[1] else images

    def forward(self, images: Tensor) -> RamFAEOutput | InferenceBatch:
        """Reconstruct (training mode) or predict (evaluation mode) for images (B, 3, H, W) in [0, 1].

        Returns:
            ``RamFAEOutput`` in training mode, else ``InferenceBatch`` with scores (B,) and maps (B, 1, H, W) in [0, 1].

        Raises:
            ValueError: If the images have another number of channels, or a height or width that is not divisible by
                ``size_divisor`` or smaller than 16 pixels or half the window of the map's blur.
        """
        smallest = max(SMALLEST_IMAGE, self.map_generator.smooth.smallest_map)
        check_input_size(images, self.size_divisor, "RamFAE", smallest, self.image_channels)
        images = self.select_channels(images)
        reconstruction = self.reconstruct(images)
        if self.training:
            return RamFAEOutput(reconstruction)
        with full_precision(images.device.type):
            score, anomaly_map = self.map_generator(images.float(), reconstruction.float())
        return InferenceBatch(pred_score=score, anomaly_map=anomaly_map)
