"""Scratches: straight grooves in pieces, bright or dark, frayed into finer ones."""

import math

import torch
from torch import Tensor

from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.strokes import SPACING, extent, smooth_curve, stamp, walk

_PIECES = 4
_STRANDS = 4
_JUMPS = 14


class Scratch(Defect):
    """Scratch: a poly-line that catches the light, of varying width and depth, with finer strands beside it."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device, scale = site.images.device, site.scale
        longest = 130 * scale
        count = math.ceil(longest / SPACING)
        length = (12 * scale + (longest - 12 * scale) * site.size * draws.uniform(0.4, 1.0))[:, None]
        points = _poly_line(draws, count, length)

        # The strands run beside the line, begin and end elsewhere and are thinner and fainter.
        position = torch.linspace(0, 1, count)
        aside = draws.normal(_STRANDS, 1) * (0.8 + 1.6 * site.size[:, None, None]) * max(scale, 0.6)
        drift = draws.normal(_STRANDS, 1) * 0.02 * length[..., None] * (position - 0.5)
        middle, half = draws.uniform(0.2, 0.8, _STRANDS, 1), draws.uniform(0.05, 0.45, _STRANDS, 1)
        frays = draws.uniform(0, 1, _STRANDS, 1) < 0.35 + 0.5 * site.size[:, None, None]
        fray_depth = (1 - ((position - middle) / half).square()).clamp_min(0) * frays
        fray_depth = fray_depth * draws.uniform(0.2, 0.7, _STRANDS, 1)
        direction = points[:, -1] - points[:, 0]
        normal = torch.stack([-direction[:, 1], direction[:, 0]], 1) / direction.norm(dim=1, keepdim=True).clamp_min(1)
        strands = points[:, None] + (aside + drift)[..., None] * normal[:, None, None]

        width = 0.35 + (0.1 + 0.6 * site.size) * draws.uniform(0.6, 1.2) * max(scale, 0.5)
        taper = (6 * position.minimum(1 - position)).clamp_max(1)  # the tool comes down and lifts off
        jumps = smooth_curve(draws.uniform(0.35, 1.0, _JUMPS), count)
        jumps[:, count // 2] = 1
        depth = torch.cat([(taper * jumps)[:, None], fray_depth], 1)
        radius = torch.cat([(width[:, None] * (0.5 + 0.5 * taper))[:, None], 0.3 * torch.ones_like(fray_depth)], 1)
        lines = torch.cat([points[:, None], strands], 1)
        lines = (lines - points[:, None, count // 2 : count // 2 + 1]).flatten(1, 2)
        opacity = (0.45 + 0.55 * site.opacity)[:, None]
        strength = (depth.flatten(1) * opacity).to(device, non_blocking=True)
        radius = radius.flatten(1)
        window = site.window(extent(lines, radius) + 1)
        cover = stamp(lines.to(device) + window.origin, radius, strength, window.size)

        # A groove reflects on the side towards the lamp and lies in its own shade on the other.
        gain = column((0.2 + 0.6 * site.contrast) * draws.sign(), device)
        gain = gain * (0.35 + 0.65 * site.surface().mean(1, keepdim=True))
        rim = torch.roll(cover, (1, 1), (2, 3)) * 0.5
        rim[..., 0, :] = 0
        rim[..., :, 0] = 0
        return window, window.images + gain * (cover - rim), torch.maximum(cover, rim)


def _poly_line(draws: ImageDraws, count: int, length: Tensor) -> Tensor:
    """Points (B, count, 2) of a line of a few straight pieces, mostly in one direction."""
    bends = draws.normal(_PIECES) * 0.12
    bends[:, 0] = draws.uniform(0, 2 * math.pi)
    piece = (torch.arange(count) * _PIECES // count).clamp_max(_PIECES - 1)
    arch = draws.normal(1) * 0.15 * torch.linspace(-1, 1, count)
    return walk(bends.cumsum(1)[:, piece] + arch, (length / count)[..., None])
