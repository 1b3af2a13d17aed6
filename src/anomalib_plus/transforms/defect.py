"""The base of all placed defects: where they lie, how strong they are, that they are seen, and what is labelled."""

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_plus.transforms.augmenter import Augmenter
from anomalib_plus.transforms.draws import ImageDraws, check_severity, near
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.region import Region, RegionOfInterest, points_inside
from anomalib_plus.transforms.visibility import ensure_visible, keep_grey

EDGE = 1 / 16
"""Smallest share of a pixel that a defect covers; below, the pixel stays as it was."""

_GRAIN = 32  # pixels until the grain repeats
_NEIGHBOURHOOD = 9  # pixels around the centre whose colour counts as that of the surface


class Window(NamedTuple):
    """The part of each image that a defect can touch: all windows of a batch have one size and lie inside."""

    images: Tensor
    """(B, C, h, w) float32, clean."""
    region: Tensor
    """(B, 1, h, w) bool, where defects may lie."""
    origin: Tensor
    """(B, 1, 2), row and column of the centre within the window."""
    places: Tensor
    """(B, 1, h * w) int64, where the pixels stand in the flattened image."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[2], self.images.shape[3]

    def offsets(self) -> tuple[Tensor, Tensor]:
        """Distance from the centre in pixels along rows, (B, 1, h, 1), and along columns, (B, 1, 1, w)."""
        height, width = self.size
        rows = torch.arange(height, device=self.origin.device) - self.origin[..., 0]
        columns = torch.arange(width, device=self.origin.device) - self.origin[..., 1]
        return rows[:, None, :, None], columns[:, None, None, :]

    def grain(self, draws: ImageDraws) -> Tensor:
        """Draw soft grain of standard deviation about 1 that is fixed to the centre, (B, 1, h, w)."""
        tile = F.avg_pool2d(F.pad(draws.normal(1, _GRAIN, _GRAIN), (1, 1, 1, 1), mode="circular"), 3, 1) * 3
        tile = tile.flatten(2).to(self.origin.device, non_blocking=True)
        rows, columns = (offset.round().long() % _GRAIN for offset in self.offsets())
        return tile.gather(2, (rows * _GRAIN + columns).flatten(2)).unflatten(2, self.size)


class Site(NamedTuple):
    """Location and strength of the defect of each image."""

    images: Tensor
    """(B, C, H, W), clean."""
    region: Tensor
    """(B, 1, H, W) bool, where it may lie."""
    centre: Tensor
    """(B, 2) float32 on the device, row and column of a pixel inside the region; the defect must cover it."""
    size: Tensor
    """(B,), contrast and opacity alike strengths in (0, 1] around the severity; on the host."""
    contrast: Tensor
    opacity: Tensor

    @property
    def scale(self) -> float:
        """Mean side of the images in units of 256 pixels."""
        return (self.images.shape[2] * self.images.shape[3]) ** 0.5 / 256

    def window(self, reach: float) -> Window:
        """Cut out what lies at most ``reach`` pixels from the centre, and more at the border of an image."""
        sides = [min(length, 2 * math.ceil(reach) + 1) for length in self.images.shape[2:]]
        corner, places = [], []
        for axis, (side, length) in enumerate(zip(sides, self.images.shape[2:], strict=True)):
            first = (self.centre[:, axis] - side // 2).clamp(0, length - side).long()
            corner.append(first)
            places.append(first[:, None] + torch.arange(side, device=first.device))
        flat = (places[0][:, :, None] * self.images.shape[3] + places[1][:, None]).flatten(1)[:, None]
        images, region = (
            part.flatten(2).gather(2, flat.expand(-1, part.shape[1], -1)).unflatten(2, sides)
            for part in (self.images, self.region)
        )
        return Window(images.float(), region, (self.centre - torch.stack(corner, 1))[:, None], flat)

    def surface(self) -> Tensor:
        """Mean colour of the region next to the centre, (B, C, 1, 1)."""
        near = self.window(_NEIGHBOURHOOD)
        count = near.region.sum((2, 3), keepdim=True).clamp_min(1)
        return (near.images * near.region).sum((2, 3), keepdim=True) / count


class Defect(Augmenter):
    """One defect per image at a random location inside a region of interest.

    Outside its label an image keeps its bits; on it the mean absolute change is at least ``MIN_CHANGE``. Images with
    three equal channels keep them equal. What is drawn for an image depends on the generator and on its position in the
    batch, not on the other images.

    Args:
        severity: In (0, 1]; size, contrast and opacity are drawn around it.
        probability: Share of the images that get a defect.
        roi: Region of defects and labels: a mask (H, W), one mask per image, an image file, "foreground" for the
            object that Otsu's threshold finds, or None or "everywhere".
        foreground_polarity: Side of Otsu's threshold that is the object; "auto" takes the one that is rarer at the
            image border.

    Raises:
        ValueError: If an argument is out of its range or the region of interest allows no pixel.
    """

    def __init__(
        self,
        severity: float = 0.5,
        probability: float = 1.0,
        roi: RegionOfInterest = None,
        foreground_polarity: Polarity = "auto",
    ) -> None:
        super().__init__()
        check_severity(severity)
        if not 0 <= probability <= 1:
            msg = f"probability must lie in [0, 1], got {probability}."
            raise ValueError(msg)
        self.severity = severity
        self.probability = probability
        self.roi = roi
        self.foreground_polarity = foreground_polarity
        self.region = Region(roi, foreground_polarity)

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Add defects to a copy of ``images``.

        Args:
            images: (B, C, H, W) or (C, H, W), float in [0, 1], C 1 or 3; left as it is.
            generator: CPU generator; torch's default one if None.

        Returns:
            Images with defects and their masks (B, 1, H, W) or (1, H, W), 1 on a defect and 0 elsewhere.
        """
        batch = as_image_batch(images)
        draws = ImageDraws(len(batch), generator)
        chosen = draws.uniform(0, 1) < self.probability
        place = draws.uniform(0, 1, 2)
        strengths = [near(self.severity, draws) for _ in range(3)]
        region = self.region.masks(batch)
        site = Site(batch, region, self._centres(region, place), *strengths)
        with torch.autocast(batch.device.type, enabled=False):
            window, changed, cover = self._draw(site, draws)
            cover = cover * (window.region & column(chosen, batch.device))
            own = batch.flatten(2).gather(2, window.places.expand(-1, batch.shape[1], -1)).view_as(window.images)
            patch, label = ensure_visible(own, window.images, keep_grey(changed, batch), cover, EDGE)
        image = batch.clone(memory_format=torch.contiguous_format)
        mask = torch.zeros(len(batch), 1, *batch.shape[2:], dtype=batch.dtype, device=batch.device)
        image.view(*batch.shape[:2], -1).scatter_(2, window.places.expand(-1, batch.shape[1], -1), patch.flatten(2))
        mask.view(len(batch), 1, -1).scatter_(2, window.places, label.flatten(2))
        return (image, mask) if images.ndim == 4 else (image[0], mask[0])

    def _centres(self, region: Tensor, draws: Tensor) -> Tensor:
        """Row and column (B, 2) of a random pixel of each region, from uniform draws (B, 2)."""
        if not self.region.is_everywhere:
            return points_inside(region, draws[:, 0])
        return (draws * torch.tensor(region.shape[2:])).floor().to(region.device, non_blocking=True)

    @abstractmethod
    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        """Draw the defects, regardless of the region.

        Returns:
            The window of each image that holds its defect; the window with the defect, (B, C, h, w) float32; and how
            much of each pixel is covered, (B, 1, h, w) in [0, 1], above ``EDGE`` at the centre.
        """


def column(values: Tensor, device: torch.device) -> Tensor:
    """Move host numbers (B,) to ``device`` as (B, 1, 1, 1)."""
    return values.to(device, non_blocking=True)[:, None, None, None]
