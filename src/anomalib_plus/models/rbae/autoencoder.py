"""Networks of RB-AE: encoder, decoder and the discriminators of their features (MSFDM)."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

NUM_LAYERS = 5

UpsamplingMode = Literal["transposed", "bilinear"]

ANOMALOUS_SHARE = 0.06
"""Mean share of anomalous pixels in the paper's synthetic defects, with which the discriminators start."""


class Upsampling(nn.Sequential):
    """Upsampling by ``stride``, batch normalisation, ReLU.

    Transposed convolutions whose side is their stride compute each output pixel of a ``stride x stride`` block with
    weights of its own, which can show as a grid. "bilinear" interpolates and convolves the result with a side of 3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, mode: UpsamplingMode) -> None:
        layers: list[nn.Module] = [nn.ConvTranspose2d(in_channels, out_channels, stride, stride, bias=False)]
        if mode == "bilinear":
            convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
            layers = [nn.Upsample(scale_factor=stride, mode="bilinear"), convolution]
        super().__init__(*layers, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    """Five layers of two convolutions each; the first convolution has the layer's stride.

    Args:
        widths: Channels of the layers.
        strides: Stride of each layer.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(Conv2dNormActivation(before, after, stride=stride), Conv2dNormActivation(after, after))
            for (before, after), stride in zip(pairwise((3, *widths)), strides, strict=True)
        )

    def forward(self, images: Tensor, num_layers: int = NUM_LAYERS) -> list[Tensor]:
        """Map images (B, 3, H, W) to the features (B, C, H / stride, W / stride) of each of the first layers."""
        features = []
        for layer in self.layers[:num_layers]:
            images = layer(images)
            features.append(images)
        return features


class Decoder(nn.Module):
    """Decoder from the features of layers 3 to 5 to images.

    Args:
        widths: Channels of the encoder's layers.
        strides: Strides of the encoder's layers.
        upsampling: See :class:`Upsampling`.
    """

    def __init__(
        self, widths: Sequence[int], strides: Sequence[int], upsampling: UpsamplingMode = "transposed"
    ) -> None:
        super().__init__()
        steps = list(pairwise(reversed(widths)))
        skipped = [width if layer >= 3 else 0 for layer, width in enumerate(widths[:-1], 1)][::-1]
        self.upsample = nn.ModuleList(
            Upsampling(before, after, stride, upsampling)
            for (before, after), stride in zip(steps, reversed(strides[1:]), strict=True)
        )
        self.refine = nn.ModuleList(
            Conv2dNormActivation(after + skip, after) for (_, after), skip in zip(steps, skipped, strict=True)
        )
        last = [] if strides[0] == 1 else [Upsampling(widths[0], widths[0], strides[0], upsampling)]
        self.head = nn.Sequential(*last, nn.Conv2d(widths[0], 3, kernel_size=3, padding=1), nn.Sigmoid())

    def forward(self, layer3: Tensor, layer4: Tensor, layer5: Tensor) -> Tensor:
        """Map the features of three layers to images (B, 3, H, W) in [0, 1]."""
        skips = [layer4, layer3]
        features = layer5
        for upsample, refine in zip(self.upsample, self.refine, strict=True):
            features = upsample(features)
            if skips:
                features = torch.cat([features, skips.pop(0)], dim=1)
            features = refine(features)
        return self.head(features)


class FeatureDiscriminator(nn.Sequential):
    """Map concatenated features of image and reconstruction (B, 2C, H, W) to logits of an anomaly (B, 1, H, W).

    The bias of the last layer starts at the logit of ``ANOMALOUS_SHARE``, so that the first steps of the training do
    not have to learn that most pixels are normal.
    """

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        last = nn.Conv2d(hidden_channels // 2, 1, kernel_size=1)
        nn.init.constant_(cast(Tensor, last.bias), math.log(ANOMALOUS_SHARE / (1 - ANOMALOUS_SHARE)))
        super().__init__(
            Conv2dNormActivation(2 * channels, hidden_channels, kernel_size=1),
            Conv2dNormActivation(hidden_channels, hidden_channels),
            Conv2dNormActivation(hidden_channels, hidden_channels // 2),
            last,
        )


class MultiScaleDiscriminator(nn.Module):
    """MSFDM: one :class:`FeatureDiscriminator` for each of the first layers.

    Args:
        widths: Channels of these layers.
        hidden_channels: Hidden channels of the discriminators, at least 2.
    """

    def __init__(self, widths: Sequence[int], hidden_channels: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FeatureDiscriminator(width, hidden_channels) for width in widths)

    def forward(self, image_features: Sequence[Tensor], reconstruction_features: Sequence[Tensor]) -> list[Tensor]:
        """Compare features (B, C, H, W) layer by layer; return logits (B, 1, H, W) per layer."""
        pairs = zip(self.layers, image_features, reconstruction_features, strict=True)
        return [layer(torch.cat([image, reconstruction], dim=1)) for layer, image, reconstruction in pairs]
