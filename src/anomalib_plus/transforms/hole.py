"""Holes: a part is missing and the background shows."""

import torch
from torch import Tensor

from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.foreground import otsu_foreground
from anomalib_plus.transforms.outline import draw_outline

_STRIDE = 4  # every fourth pixel tells enough of the background


class Hole(Defect):
    """Hole: a missing part, filled with the background of the object, or with darkness on a surface without one."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device = site.images.device
        radius = (3 + 22 * site.size) * site.scale + 1
        window, distance = draw_outline(site, draws, radius, roughness=0.3)
        pixel = 1 / column(radius, device)
        cover = ((1 - distance) / (1.5 * pixel)).clamp_(0, 1)

        # The rim stands above the ground and shades one side of it.
        drop = (0.5 + 0.5 * site.contrast) * radius * 0.25
        shift = torch.stack([drop * draws.sign(), drop * draws.sign()], 1).round().long().tolist()
        shade = torch.stack([torch.roll(one, tuple(by), (1, 2)) for one, by in zip(cover, shift, strict=True)])
        inner = 0.45 + 0.55 * shade
        ground = self._ground(site, window, draws) * inner
        opacity = column(0.75 + 0.25 * site.opacity, device)
        cover = cover * opacity
        changed = torch.lerp(window.images, ground, cover)
        # A broken edge catches the light.
        rim = (1 - ((distance - 1) / (2.0 * pixel)).abs()).clamp_min_(0) * column(0.1 + 0.3 * site.contrast, device)
        changed = changed + rim * column(draws.sign(), device) * 0.5
        return window, changed, torch.maximum(cover, rim)

    def _ground(self, site: Site, window: Window, draws: ImageDraws) -> Tensor:
        """Return the colour behind the object: the background's mean, or a dark grey on a surface."""
        device = site.images.device
        images = site.images[..., ::_STRIDE, ::_STRIDE].float()
        grey = images.mean(1, keepdim=True)
        objects = otsu_foreground(images.expand(-1, 3, -1, -1), self.foreground_polarity)
        (colour, level, spread), (_, object_level, object_spread) = (
            _moments(images, grey, part.float()) for part in (~objects, objects)
        )
        # The two sides of Otsu's threshold on a plain surface overlap more than an object and its background.
        apart = (level - object_level).abs() > 2 * spread + object_spread
        row, place = (site.centre / _STRIDE).long().unbind(1)
        on_object = objects[torch.arange(len(row), device=device), 0, row, place][:, None, None, None]
        dark = site.surface() * column(draws.uniform(0.05, 0.35), device)
        return (torch.where(apart & on_object, colour, dark) + 0.012 * window.grain(draws)).clamp_(0, 1)


def _moments(images: Tensor, grey: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean colour, mean grey level and its standard deviation where ``part`` (B, 1, H, W) is 1; (B, C or 1, 1, 1)."""
    count = part.sum((2, 3), keepdim=True).clamp_min(1)
    colour = (images * part).sum((2, 3), keepdim=True) / count
    level = (grey * part).sum((2, 3), keepdim=True) / count
    return colour, level, ((grey - level).square() * part).sum((2, 3), keepdim=True).div(count).sqrt()
