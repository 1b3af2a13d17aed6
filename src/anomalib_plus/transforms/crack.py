"""Cracks: jagged dark lines that branch."""

import math

import torch
from torch import Tensor

from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.strokes import SPACING, extent, stamp, walk

_BRANCHES = 5
_KINK = 5.0  # pixels between two changes of direction, at 256 pixels


class Crack(Defect):
    """Crack: a jagged dark line that grows thinner towards its tips and branches on its way."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device, scale = site.images.device, site.scale
        longest = 140 * scale
        count = math.ceil(longest / SPACING)
        branch_count = count // 2
        length = 15 * scale + (longest - 15 * scale) * site.size * draws.uniform(0.5, 1.0)
        step = (length / count)[:, None, None]

        heading = draws.uniform(0, 2 * math.pi, 1) + _jagged(draws, count, scale)
        trunk = walk(heading, step)
        position = torch.linspace(0, 1, count)
        widest = (0.3 + 0.5 * site.size * draws.uniform(0.7, 1.3) * max(scale, 0.6))[:, None]
        taper = 0.45 + 0.55 * (4 * position * (1 - position)).sqrt()
        trunk_radius = widest * taper * draws.uniform(0.75, 1.15, count)

        parts, radii, strengths = [trunk], [trunk_radius], [torch.ones_like(trunk_radius)]
        along = torch.linspace(0, 1, branch_count)
        for branch in range(_BRANCHES):
            start = (draws.uniform(0.12, 0.88) * count).long()
            angle = draws.sign() * draws.uniform(0.35, 1.1)
            root = trunk.gather(1, start[:, None, None].expand(-1, 1, 2))
            turned = heading.gather(1, start[:, None]) + angle[:, None] + _jagged(draws, branch_count, scale)
            share = draws.uniform(0.15, 0.8)[:, None]
            exists = (site.size * _BRANCHES * draws.uniform(0.6, 1.4) > branch)[:, None].float()
            parts.append(root + walk(turned, step * share[..., None]))
            radii.append(widest * (0.7 - 0.4 * along) * draws.uniform(0.8, 1.1, branch_count))
            strengths.append(exists * (1 - 0.6 * along))
        points = torch.cat(parts, 1) - trunk[:, count // 2 : count // 2 + 1]
        strength = torch.cat(strengths, 1) * (0.55 + 0.45 * site.opacity)[:, None]
        radius = torch.cat(radii, 1)
        window = site.window(extent(points, radius))
        cover = stamp(points.to(device) + window.origin, radius, strength.to(device, non_blocking=True), window.size)
        # The gap is in the shade: what is left of the surface's light decides how dark it is.
        darkness = column(0.35 + 0.6 * site.contrast, device)
        return window, window.images * (1 - cover * darkness), cover


def _jagged(draws: ImageDraws, count: int, scale: float) -> Tensor:
    """Headings (B, count) around 0: straight for a few pixels, then another way, never far from the first."""
    kinks = max(2, math.ceil(count * SPACING / (_KINK * max(scale, 0.4))))
    kink = (torch.arange(count) * kinks // count).clamp_max(kinks - 1)
    wander = draws.normal(kinks).cumsum(1) * 0.1
    return (draws.normal(kinks) * 0.5 + wander)[:, kink]
