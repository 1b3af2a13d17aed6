"""Irregular closed outlines for a whole batch."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_plus.transforms.defect import Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws

_REACH = 2.0  # radii from the centre that the noise covers
_COARSE, _FINE = 9, 25  # values of the noise along each side


def draw_outline(site: Site, draws: ImageDraws, radius: Tensor, roughness: float) -> tuple[Window, Tensor]:
    """Draw an ellipse with an uneven rim around the centre of each site.

    Args:
        site: Location of the defects.
        draws: Random numbers.
        radius: (B,) mean radius in pixels.
        roughness: Approximate distance by which the rim leaves the ellipse, as a share of the radius.

    Returns:
        Windows that hold the outlines; and (B, 1, h, w) float32, about the distance from the centre in radii: 0 there,
        1 on the rim, more outside.
    """
    device = site.images.device
    angle, aspect = draws.uniform(0, math.pi), draws.uniform(0.55, 1.0)
    window = site.window(float((radius / aspect.sqrt()).max()) * (1 + 2 * roughness) + 1)
    rows, columns = window.offsets()
    cos, sin = column(angle.cos() / radius, device), column(angle.sin() / radius, device)
    flattened = column(aspect.sqrt(), device)
    along = (rows * sin + columns * cos) * flattened
    across = (rows * cos - columns * sin) / flattened
    distance = (along.square() + across.square()).sqrt_()

    noise = F.interpolate(draws.normal(1, _COARSE, _COARSE), (_FINE, _FINE), mode="bicubic", align_corners=True)
    noise = (noise * 0.8 + draws.normal(1, _FINE, _FINE) * 0.35).to(device, non_blocking=True)
    grid = torch.stack([along[:, 0], across[:, 0]], dim=-1) / _REACH
    uneven = F.grid_sample(noise, grid, mode="bicubic", padding_mode="border", align_corners=True)
    # The unevenness vanishes at the centre, which is therefore always covered.
    return window, distance.add_(uneven.clamp_(-2, 2).mul_(roughness).mul_(distance.clamp_max(1)))
