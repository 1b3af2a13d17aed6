"""Stains: soft discolourations that let the surface show through."""

import torch
from torch import Tensor

from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.outline import draw_outline


class Stain(Defect):
    """Stain: a soft patch that filters the light, darker, brighter or tinted, often with a darker rim."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device = site.images.device
        radius = (7 + 38 * site.size) * site.scale
        window, distance = draw_outline(site, draws, radius, roughness=0.3)
        softness = column(draws.uniform(0.15, 0.55), device)
        body = ((1 - distance) / softness).clamp_(0, 1)
        body = body * body * (3 - 2 * body)
        # Where a drop dried, what it carried lies along its edge.
        ring = (1 - ((distance - (1 - softness * 0.6)) / 0.12).square()).clamp_min_(0)
        ring = ring * column((draws.uniform(0, 1) < 0.5).float() * draws.uniform(0.3, 0.9), device)
        cover = body * column(0.55 + 0.45 * site.opacity, device)

        strength = column(0.1 + 0.42 * site.contrast, device)
        darkens = column((draws.uniform(0, 1) < 0.75).float(), device)
        tint = draws.uniform(0.2, 1.0, 3)[:, : site.images.shape[1]]
        tint = torch.where(draws.uniform(0, 1, 1) < 0.5, tint, torch.ones_like(tint)).to(device)[..., None, None]
        density = (cover * (1 + ring) * strength * tint).clamp_(0, 1)
        darker = window.images * (1 - density)
        brighter = window.images + (1 - window.images) * density * 0.6
        return window, torch.where(darkens > 0, darker, brighter), cover
