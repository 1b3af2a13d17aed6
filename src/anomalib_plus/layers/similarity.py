"""Image similarity maps: gradient magnitude similarity (GMS), its multi-scale form (MSGMS) and SSIM.

All functions take image batches (B, C, H, W) with values in [0, 1] and treat every channel separately.
"""

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

GMS_CONSTANT = 170 / 255**2
"""Stabiliser of GMS for images in [0, 1]; Xue et al. (2013) use 170 for values up to 255."""


def gradient_magnitude(images: Tensor) -> Tensor:
    """Prewitt gradient magnitude, (B, C, H, W).

    The kernels are ``[1, 0, -1] / 3`` over three rows and its transpose. Borders are replicated, because zero padding
    would create edges. 1e-12 is added inside the root: without it flat areas have NaN gradients.

    Sums and differences of shifted images are three times as fast in training as convolutions of single channels.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    columns = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    rows = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    horizontal = (columns[..., :-2] - columns[..., 2:]) / 3
    vertical = (rows[..., :-2, :] - rows[..., 2:, :]) / 3
    return (horizontal * horizontal + vertical * vertical + 1e-12).sqrt()


def gms_map(reference: Tensor, distorted: Tensor, constant: float = GMS_CONSTANT) -> Tensor:
    """Gradient magnitude similarity of every pixel, (B, C, H, W) in (0, 1]; 1 means equal gradients."""
    m_r, m_d = gradient_magnitude(reference), gradient_magnitude(distorted)
    return (2 * m_r * m_d + constant) / (m_r * m_r + m_d * m_d + constant)


def gms_distance_map(reference: Tensor, distorted: Tensor, constant: float = GMS_CONSTANT) -> Tensor:
    """``1 - GMS`` of every pixel, (B, C, H, W) in [0, 1).

    Computed as ``(m_r - m_d)^2 / (m_r^2 + m_d^2 + c)``, which is equal and never negative by rounding.
    """
    m_r, m_d = gradient_magnitude(reference), gradient_magnitude(distorted)
    return (m_r - m_d).square() / (m_r * m_r + m_d * m_d + constant)


def gms_distances_per_scale(
    reference: Tensor, distorted: Tensor, num_scales: int = 4, constant: float = GMS_CONSTANT
) -> list[Tensor]:
    """``1 - GMS`` at 1, 1/2, 1/4, ... of the resolution (2x2 average pooling), largest first.

    Raises:
        ValueError: If the images are too small to be halved ``num_scales - 1`` times.
    """
    if min(reference.shape[-2:]) < 2 ** (num_scales - 1):
        height, width = reference.shape[-2:]
        msg = (
            f"Images of {height}x{width} pixels are too small for {num_scales} scales of gradient similarity: "
            f"use images of at least {2 ** (num_scales - 1)} pixels per side, or fewer scales."
        )
        raise ValueError(msg)
    maps = []
    for scale in range(num_scales):
        if scale > 0:
            reference, distorted = F.avg_pool2d(reference, 2), F.avg_pool2d(distorted, 2)
        maps.append(gms_distance_map(reference, distorted, constant))
    return maps


def msgms_distance_map(reference: Tensor, distorted: Tensor, constant: float = GMS_CONSTANT) -> Tensor:
    """Mean over four scales of ``1 - GMS``, each resized to the input's size (bilinear); (B, C, H, W) in [0, 1)."""
    size = reference.shape[-2:]
    distances = gms_distances_per_scale(reference, distorted, constant=constant)
    resized = [distances[0], *(F.interpolate(d, size, mode="bilinear", align_corners=False) for d in distances[1:])]
    return torch.stack(resized).mean(dim=0)


def ssim_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Structural similarity of every pixel, (B, C, H, W) in [-1, 1]; Gaussian window 11, sigma 1.5, range 1."""
    return kornia.metrics.ssim(reference, distorted, window_size=11, eps=0.0)
