"""Rectangular damage: Delete Paste and its siblings CutPaste and Cutout.

Delete Paste (RAMFAE, section 3) cuts one rectangle out of an image, leaves a black hole and pastes the pixels somewhere
else: a missing part and a wrong part in one call. CutPaste only pastes, Cutout only deletes.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from anomalib_plus.transforms.augmenter import Augmenter
from anomalib_plus.transforms.draws import check_severity, narrow
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.image_batch import as_image_batch
from anomalib_plus.transforms.region import Region, RegionOfInterest, points_inside
from anomalib_plus.transforms.visibility import ensure_visible


class Rectangles(NamedTuple):
    """One rectangle per image and where its copy goes; int64 host tensors (B,), pixels."""

    height: Tensor
    width: Tensor
    source_y: Tensor
    source_x: Tensor
    target_y: Tensor
    target_x: Tensor


def draw_rectangles(
    count: int,
    image_size: tuple[int, int],
    area_ratio: tuple[float, float],
    aspect_ratio: tuple[float, float],
    *,
    disjoint: bool,
    max_tries: int = 100,
    generator: torch.Generator | None = None,
    region: Tensor | None = None,
) -> Rectangles:
    """Draw ``count`` rectangles, each with a source and a target position inside the image.

    The area is uniform in ``area_ratio`` times the image area, the logarithm of width / height uniform in
    ``log(aspect_ratio)``, positions uniform over all valid top-left corners. With ``disjoint``, both corners are
    redrawn until the two rectangles do not overlap; after ``max_tries`` draws the last one stands. With a ``region``
    (B, 1, H, W), a bool host tensor, a random pixel of it lies in the middle of each rectangle, or as near to it as the
    border of the image allows.
    """
    height, width = image_size
    area, log_aspect = torch.rand(2, count, generator=generator, dtype=torch.float64)
    area = (area_ratio[0] + area * (area_ratio[1] - area_ratio[0])) * height * width
    low, high = (math.log(ratio) for ratio in aspect_ratio)
    aspect = (low + log_aspect * (high - low)).exp()
    rect_width = (area * aspect).sqrt().round().long().clamp(1, width)
    rect_height = (area / aspect).sqrt().round().long().clamp(1, height)

    # Rows of `choices` are the number of valid corners along y, x, y, x (source, then target).
    sides = torch.stack([rect_height, rect_width] * 2)
    choices = torch.tensor([height, width] * 2)[:, None] - sides + 1
    corners = torch.empty_like(choices)
    pending = torch.arange(count)
    for _ in range(max_tries):
        drawn = torch.rand(4, len(pending), generator=generator, dtype=torch.float64)
        if region is None:
            corners[:, pending] = (drawn * choices[:, pending]).long()
        else:
            middles = [points_inside(region[pending], draw) for draw in (drawn[0], drawn[2])]
            wanted = torch.cat(middles, 1).T.long() - sides[:, pending] // 2
            corners[:, pending] = wanted.clamp_min(0).minimum(choices[:, pending] - 1)
        if not disjoint:
            break
        distance = (corners[:2, pending] - corners[2:, pending]).abs()
        overlap = (distance[0] < rect_height[pending]) & (distance[1] < rect_width[pending])
        pending = pending[overlap]
        if len(pending) == 0:
            break
    return Rectangles(rect_height, rect_width, *corners)


class _RectangleDamage(Augmenter):
    """Rectangular damage to a batch of images; the subclasses say whether they delete, paste or both.

    Args:
        area_ratio: Smallest and largest rectangle as a share of the image.
        aspect_ratio: Smallest and largest width / height, drawn log-uniformly.
        num_patches: Rectangles per image. Pixels are always cut from the clean image.
        allow_overlap: Let the pasted rectangle touch the one it was cut from.
        fill_value: Value of deleted pixels (0 is black).
        probability: Share of images that are damaged.
        max_tries: Draws until an overlapping pair is accepted after all.
        severity: In (0, 1]: draws the area from the part of its range around it and makes sure that the damage can be
            seen. None uses the whole range, and damage may be invisible.
        roi: Region of rectangles and labels, see :class:`anomalib_plus.transforms.defect.Defect`; rectangles are
            centred on it and cut off at its border.
        foreground_polarity: Side of Otsu's threshold that is the object, for a ``roi`` of "foreground".

    Raises:
        ValueError: If a range is empty or out of bounds, or the region of interest allows no pixel.
    """

    deletes: ClassVar[bool]
    pastes: ClassVar[bool]

    def __init__(
        self,
        area_ratio: tuple[float, float] = (0.02, 0.15),
        aspect_ratio: tuple[float, float] = (0.3, 3.3),
        num_patches: int = 1,
        allow_overlap: bool = False,
        fill_value: float = 0.0,
        probability: float = 1.0,
        max_tries: int = 100,
        severity: float | None = None,
        roi: RegionOfInterest = None,
        foreground_polarity: Polarity = "auto",
    ) -> None:
        super().__init__()
        if not 0 < area_ratio[0] <= area_ratio[1] <= 1:
            msg = f"area_ratio must satisfy 0 < low <= high <= 1, got {area_ratio}."
            raise ValueError(msg)
        if not 0 < aspect_ratio[0] <= aspect_ratio[1]:
            msg = f"aspect_ratio must satisfy 0 < low <= high, got {aspect_ratio}."
            raise ValueError(msg)
        if not (0 <= probability <= 1 and 0 <= fill_value <= 1):
            msg = f"probability and fill_value must lie in [0, 1], got {probability} and {fill_value}."
            raise ValueError(msg)
        if num_patches < 1 or max_tries < 1:
            msg = f"num_patches and max_tries must be at least 1, got {num_patches} and {max_tries}."
            raise ValueError(msg)
        self.area_ratio = (area_ratio[0], area_ratio[1])
        self.aspect_ratio = (aspect_ratio[0], aspect_ratio[1])
        self.num_patches = num_patches
        self.allow_overlap = allow_overlap
        self.fill_value = fill_value
        self.probability = probability
        self.max_tries = max_tries
        check_severity(severity)
        self.severity = severity
        self.roi = roi
        self.foreground_polarity = foreground_polarity
        self.region = Region(roi, foreground_polarity)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Damage a copy of ``images``.

        The rectangles are drawn on the host, so a CPU ``generator`` gives the same damage on every device and no
        device synchronisation happens; two slice copies per image are then faster than a gather over all pixels.

        Args:
            images: (B, C, H, W) or (C, H, W), float in [0, 1]; left as it is.
            generator: CPU generator; torch's default one if None.

        Returns:
            Damaged images and their masks (B, 1, H, W) or (1, H, W), 1 where a rectangle lies, else 0.
        """
        batch = as_image_batch(images)
        count, _, height, width = batch.shape
        damaged = batch.clone()
        masks = batch.new_zeros(count, 1, height, width)
        chosen = (torch.rand(count, generator=generator) < self.probability).tolist()
        region = None if self.region.is_everywhere else self.region.masks(batch)
        host_region = None if region is None else region.cpu()
        for _ in range(self.num_patches):
            rectangles = draw_rectangles(
                count,
                (height, width),
                narrow(self.area_ratio, self.severity),
                self.aspect_ratio,
                disjoint=self.deletes and self.pastes and not self.allow_overlap,
                max_tries=self.max_tries,
                generator=generator,
                region=host_region,
            )
            for index, numbers in enumerate(zip(*(column.tolist() for column in rectangles), strict=True)):
                if chosen[index]:
                    self._damage(batch[index], damaged[index], masks[index], numbers)
        if region is not None:
            masks.mul_(region)
            damaged = torch.where(region, damaged, batch)
        if self.severity is not None:
            damaged, masks = ensure_visible(batch, batch.float(), damaged.float(), masks.float(), 0.5)
        return (damaged, masks) if images.ndim == 4 else (damaged[0], masks[0])

    def _damage(self, clean: Tensor, damaged: Tensor, mask: Tensor, rectangle: tuple[int, ...]) -> None:
        height, width, source_y, source_x, target_y, target_x = rectangle
        source = (..., slice(source_y, source_y + height), slice(source_x, source_x + width))
        target = (..., slice(target_y, target_y + height), slice(target_x, target_x + width))
        if self.deletes:
            damaged[source] = self.fill_value
            mask[source] = 1
        if self.pastes:
            damaged[target] = clean[source]
            mask[target] = 1


class DeletePaste(_RectangleDamage):
    """Cut a rectangle, leave a hole, paste the pixels elsewhere (RAMFAE, section 3)."""

    deletes = True
    pastes = True


class CutPaste(_RectangleDamage):
    """Copy a rectangle to another place (Li et al. 2021, without colour jitter); the mask covers the copy."""

    deletes = False
    pastes = True


class Cutout(_RectangleDamage):
    """Blank a rectangle (DeVries and Taylor 2017, with CutPaste's areas); the mask covers the hole."""

    deletes = True
    pastes = False
