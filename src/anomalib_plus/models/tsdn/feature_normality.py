"""Normality of the bottleneck's channels: the estimator and its target (TSDN, section 3)."""

from collections.abc import Sequence
from itertools import pairwise

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from anomalib_plus.layers.precision import full_precision

_SSIM_WINDOW = 11
_CHUNK = 2**19
"""Number of values compared at a time: they fit into a CPU's cache, which is three times as fast as all at once."""


class FeatureNormalityEstimator(nn.Module):
    """Estimator of one logit per channel, high for channels that do not show the anomaly.

    Args:
        in_channels: Channels of the bottleneck, C.
        channels: Channels of the convolution.
        hidden: Widths of the fully connected layers before the last.
        size: Side of the flattened map, to which maps of another size are resized.
    """

    def __init__(
        self, in_channels: int, channels: int = 32, hidden: Sequence[int] = (512, 256), size: int = 11
    ) -> None:
        super().__init__()
        self.size = size
        self.convolution = Conv2dNormActivation(in_channels, channels, kernel_size=3)
        layers: list[nn.Module] = []
        for before, after in pairwise([channels * size * size, *hidden]):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        width = hidden[-1] if hidden else channels * size * size
        self.layers = nn.Sequential(*layers, nn.Linear(width, in_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, C)."""
        maps = self.convolution(features)
        # The identity for maps of that size.
        maps = F.interpolate(maps, (self.size, self.size), mode="bilinear", align_corners=False)
        return self.layers(maps.flatten(1))


@torch.no_grad()
def normality_target(features: Tensor, masks: Tensor, size: int | None = None) -> Tensor:
    """Compute the estimator's target: 0 for the channel most similar to the mask, 1 for the least similar.

    It is the distance 1 - SSIM, scaled to [0, 1] within an image. (Taken literally, the paper's formula is the
    similarity, which would keep the channels that show the anomaly, contrary to its text.)

    Args: Those of :func:`channel_similarity`.

    Returns:
        (B, C) in float32, without gradients. All zero if all channels are equally similar.
    """
    return scaled_distance(channel_similarity(features, masks, size))


def scaled_distance(similarity: Tensor) -> Tensor:
    """``1 - similarity`` (B, C), scaled so that each row spans [0, 1]."""
    distance = 1 - similarity
    low, high = distance.aminmax(dim=1, keepdim=True)
    return (distance - low) / (high - low + 1e-8)


def channel_similarity(features: Tensor, masks: Tensor, size: int | None = None) -> Tensor:
    """Mean SSIM of every channel with the mask of its image, both resized to a common size (eq. 1).

    Each channel is scaled to [0, 1] first, so that its pattern counts and not its brightness.

    Args:
        features: (B, C, h, w).
        masks: (B, 1, H, W) in [0, 1].
        size: Side of the square; None for a quarter of the masks' height and width, as 88 are of 352, but at least 11,
            the side of SSIM's window.

    Returns:
        (B, C) in [-1, 1], float32.
    """
    with full_precision(features.device.type):
        side = [max(round(length / 4), _SSIM_WINDOW) for length in masks.shape[-2:]] if size is None else [size, size]
        features, masks = features.float(), masks.float()
        low, high = features.amin((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        features = (features - low) / (high - low + 1e-8)
        masks = F.interpolate(masks, side, mode="area")
        return torch.stack([_similarity_to(mask, maps) for mask, maps in zip(masks, features, strict=True)])


def _similarity_to(mask: Tensor, maps: Tensor) -> Tensor:
    """Compute the mean SSIM (C,) of a mask (1, H, W) with each of some maps (C, h, w), which are resized."""
    mask = mask.unsqueeze(0)
    mean_m = _ssim_blur(mask)
    variance_m = _ssim_blur(mask.square()) - mean_m.square()
    similarities = []
    for some in maps.unsqueeze(0).split(max(_CHUNK // mask.numel(), 1), dim=1):
        resized = F.interpolate(some, mask.shape[-2:], mode="bilinear", align_corners=False)
        mean = _ssim_blur(resized)
        variance = _ssim_blur(resized.square()) - mean.square()
        covariance = _ssim_blur(resized * mask) - mean * mean_m
        numerator = (2 * mean * mean_m + 0.01**2) * (2 * covariance + 0.03**2)
        squares = mean.square() + mean_m.square() + 0.01**2
        similarity = numerator / (squares * (variance + variance_m + 0.03**2))
        similarities.append(similarity.mean(dim=(0, 2, 3)))
    return torch.cat(similarities)


def _ssim_blur(images: Tensor) -> Tensor:
    """Weighted means under SSIM's window, Gaussian with sigma 1.5, borders reflected."""
    # Sigma as a tensor that is made on the device: kornia would copy a number there, and the host would wait.
    sigma = torch.full((1, 1), 1.5, device=images.device, dtype=images.dtype)
    window = kornia.filters.get_gaussian_kernel1d(_SSIM_WINDOW, sigma)
    return kornia.filters.filter2d_separable(images, window, window, border_type="reflect")
