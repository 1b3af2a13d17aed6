"""Local deformations: the material is displaced; a dent is shaded besides."""

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws

_REACH = 1.3  # radii from which material comes at most


class _Deformation(Defect):
    """A deformation within an ellipse; the subclasses say which way the material goes and how it is lit."""

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device = site.images.device
        radius = (8 + 34 * site.size) * site.scale + 1
        aspect = draws.uniform(0.6, 1.0).sqrt()
        window = site.window(float((radius / aspect).max()) * _REACH)
        images, (height, width) = window.images, window.size
        rows, columns = window.offsets()
        angle = draws.uniform(0, math.pi)
        cos, sin = angle.cos() / radius, angle.sin() / radius
        along = rows * column(sin * aspect, device) + columns * column(cos * aspect, device)
        across = rows * column(cos / aspect, device) - columns * column(sin / aspect, device)
        # A smooth bump: 1 at the centre, flat there and on the rim.
        bump = (1 - along.square() - across.square()).clamp_min_(0).square_()
        row_shift, column_shift = self._displacement(site, draws, radius, rows, columns, bump)
        grid = torch.empty(len(images), height, width, 2, device=device)
        y = torch.arange(height, device=device)[:, None] * 2 + 1
        x = torch.arange(width, device=device) * 2 + 1
        torch.add(x / width - 1, column_shift[:, 0], alpha=2 / width, out=grid[..., 0])
        torch.add(y / height - 1, row_shift[:, 0], alpha=2 / height, out=grid[..., 1])
        moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        lit = self._light(moved, site, draws, along, across, bump)
        return window, lit, bump.sqrt()

    @abstractmethod
    def _displacement(
        self, site: Site, draws: ImageDraws, radius: Tensor, rows: Tensor, columns: Tensor, bump: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return from how far away each pixel takes its value, in rows and in columns, (B, 1, H, W) each."""

    def _light(
        self, moved: Tensor, site: Site, draws: ImageDraws, along: Tensor, across: Tensor, bump: Tensor
    ) -> Tensor:
        """Shade the displaced material; nothing by default."""
        del site, draws, along, across, bump
        return moved


class Dent(_Deformation):
    """Dent: material pressed in or out, bright on the side that faces the light and dark on the other."""

    def _displacement(
        self, site: Site, draws: ImageDraws, radius: Tensor, rows: Tensor, columns: Tensor, bump: Tensor
    ) -> tuple[Tensor, Tensor]:
        del radius
        depth = column((0.1 + 0.3 * site.opacity) * draws.sign(), bump.device)
        return rows * bump * depth, columns * bump * depth

    def _light(
        self, moved: Tensor, site: Site, draws: ImageDraws, along: Tensor, across: Tensor, bump: Tensor
    ) -> Tensor:
        device = moved.device
        lamp = draws.uniform(0, 2 * math.pi)
        slope = along * column(lamp.cos(), device) + across * column(lamp.sin(), device)
        gain = column(0.3 + 1.1 * site.contrast, device)
        return moved * (1 + gain * slope * bump) + slope * bump * gain * 0.04


class Warp(_Deformation):
    """Warp: material dragged to one side or twisted, without a change of the light."""

    def _displacement(
        self, site: Site, draws: ImageDraws, radius: Tensor, rows: Tensor, columns: Tensor, bump: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = bump.device
        twists = column((draws.uniform(0, 1) < 0.5).float(), device)
        direction = draws.uniform(0, 2 * math.pi)
        distance = radius * (0.15 + 0.35 * site.contrast)
        turn = column((0.4 + 1.1 * site.contrast) * draws.sign(), device) * bump * twists
        drag = bump * (1 - twists)
        cos, sin = turn.cos() - 1, turn.sin()
        row_shift = rows * cos - columns * sin + drag * column(distance * direction.sin(), device)
        column_shift = rows * sin + columns * cos + drag * column(distance * direction.cos(), device)
        return row_shift, column_shift
