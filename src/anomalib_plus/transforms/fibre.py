"""Fibres: hairs and lint that lie on the surface."""

import math

import torch
from torch import Tensor

from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.strokes import SPACING, extent, smooth_curve, stamp, walk


class Fibre(Defect):
    """Fibre: a curled hair of one width on the surface, rounded by the light, with its shadow beside it."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device, scale = site.images.device, site.scale
        longest = 170 * scale
        count = math.ceil(longest / SPACING)
        length = 20 * scale + (longest - 20 * scale) * site.size * draws.uniform(0.6, 1.0)
        curl = smooth_curve(draws.normal(6) * draws.uniform(0.3, 2.0, 1), count) * (math.pi / count)
        heading = draws.uniform(0, 2 * math.pi, 1) + 2 * curl.cumsum(1)
        points = walk(heading, (length / count)[:, None, None])
        points = points - points[:, count // 2 : count // 2 + 1]
        radius = (0.35 + 0.6 * site.size * draws.uniform(0.7, 1.2) * max(scale, 0.5))[:, None].expand(-1, count)
        opacity = (0.5 + 0.5 * site.opacity).to(device)[:, None].expand(-1, count)
        height = draws.uniform(0.8, 2.2, 1, 2) * draws.sign(1, 2) * max(scale, 0.6)
        window = site.window(extent(points, radius) + float(height.abs().max()) + 1)
        points = points.to(device) + window.origin
        body = stamp(points, radius, opacity, window.size)
        core = stamp(points, radius * 0.45, torch.ones_like(opacity), window.size)

        shadow = stamp(points + height.to(device), radius + 0.6, opacity * 0.4, window.size)

        surface = site.surface().mean((1, 2, 3))[:, None]
        tint = draws.uniform(-0.15, 0.15, 3)[:, : site.images.shape[1]].to(device)
        # Light lint on dark ground and the other way round.
        away = torch.where(surface < 0.5, 1.0, -1.0) * (0.15 + 0.35 * site.contrast.to(device))[:, None]
        colour = (surface + away + tint).clamp(0.03, 0.97)[..., None, None]
        rounded = colour + (core - 0.5) * column(draws.uniform(0.05, 0.2), device)
        changed = window.images * (1 - shadow * column(0.3 + 0.3 * site.contrast, device))
        return window, torch.lerp(changed, rounded, body), torch.maximum(body, shadow)
