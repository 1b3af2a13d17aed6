"""Contamination: crumbs, dust and splashes scattered around a location."""

import torch
from torch import Tensor

from anomalib_plus.transforms.defect import Defect, Site, Window
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.strokes import extent, stamp

_SPECKLES = 48
_LOBES = 3  # discs per speckle, so that none is round


class Contamination(Defect):
    """Contamination: a few large and many small irregular speckles of one foreign matter around a place."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device, scale = site.images.device, max(site.scale, 0.5)
        spread = ((8 + 30 * site.size) * site.scale)[:, None, None]
        stretch = torch.stack([draws.uniform(0.5, 1.3), draws.uniform(0.5, 1.3)], 1)[:, None]
        middles = draws.normal(_SPECKLES, 2).clamp(-1.8, 1.8) * stretch * spread
        middles[:, 0] = 0
        # Few are large: sizes fall off like a power.
        largest = (1.2 + 3.6 * site.size)[:, None] * scale
        radius = largest * draws.uniform(0, 1, _SPECKLES).pow(3).clamp_min(0.12)
        radius[:, 0] = largest[:, 0] * 0.7
        number = 4 + (_SPECKLES - 4) * site.size * draws.uniform(0.4, 1.0)
        exists = (torch.arange(_SPECKLES) < number[:, None]).float()

        lobes = draws.normal(_SPECKLES, _LOBES, 2) * 0.6 * radius[..., None, None]
        lobes[:, :, 0] = 0
        lobe_radius = radius[..., None] * draws.uniform(0.45, 1.0, _SPECKLES, _LOBES)
        opacity = (0.5 + 0.5 * site.opacity)[:, None] * draws.uniform(0.75, 1.0, _SPECKLES) * exists
        points = (middles[:, :, None] + lobes).flatten(1, 2)
        lobe_radius = lobe_radius.flatten(1)
        window = site.window(extent(points, lobe_radius))
        points = points.to(device) + window.origin
        strength = opacity.repeat_interleave(_LOBES, 1).to(device)
        cover = stamp(points, lobe_radius, strength, window.size)

        surface = site.surface().mean((1, 2, 3))[:, None]
        pole = (draws.uniform(0, 1, 1).to(device) < surface + 0.15).float()
        tint = draws.uniform(-0.12, 0.12, 3)[:, : site.images.shape[1]].to(device)
        away = (1 - 2 * pole) * (0.12 + 0.33 * site.contrast.to(device))[:, None]
        colour = (surface + away + tint).clamp(0.05, 0.95)[..., None, None] + 0.06 * window.grain(draws)
        return window, torch.lerp(window.images, colour, cover), cover
