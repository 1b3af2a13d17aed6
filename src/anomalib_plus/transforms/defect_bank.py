"""Real defects, cut out of a few images and pasted elsewhere."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.image_files import IMAGE_FORMATS, find_readable_files
from anomalib_plus.transforms.blending import Blend, blend
from anomalib_plus.transforms.defect import Defect, Site, Window, column
from anomalib_plus.transforms.draws import ImageDraws
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.region import RegionOfInterest

_MARGIN = 2
_SUFFIX = "_mask"


class _Pool(NamedTuple):
    """Cut-out defects in equal squares of odd side, the middle of which lies on the defect."""

    pixels: Tensor
    """(N, 4, S, S), uint8: colour and mask."""
    sides: Tensor
    """(N,), the longer side of each defect in pixels."""


class DefectBank(Defect):
    """Defect bank: real defects, cut out of a few images by their masks, turned, scaled and pasted elsewhere.

    The folder is searched recursively for pairs such as ``name.png`` and ``name_mask.png``; a category in MVTec layout
    is such a folder. The pool is read once, at the first use, and kept in memory; it is left out of pickles.

    Args:
        folder: Folder of images and masks.
        scale: Pixels of the images in training per pixel of the images in the folder.
        blend: "none", "feather" (the edge fades inwards) or "poisson" (details of the defect, brightness of the place).
        max_defects: Most defects in the pool; the first ones by name, evenly spread.
        severity: In (0, 1]; at 0.5 defects keep their size and most of their opacity, above they grow.
        probability: Share of the images that get a defect.
        roi: See :class:`~anomalib_plus.transforms.defect.Defect`.
        foreground_polarity: See :class:`~anomalib_plus.transforms.defect.Defect`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        folder: str | Path,
        scale: float = 1.0,
        blend: Blend = "feather",
        max_defects: int = 200,
        severity: float = 0.5,
        probability: float = 1.0,
        roi: RegionOfInterest = None,
        foreground_polarity: Polarity = "auto",
    ) -> None:
        super().__init__(severity, probability, roi, foreground_polarity)
        if scale <= 0 or max_defects < 1 or blend not in get_args(Blend):
            msg = (
                f"DefectBank: scale and max_defects must be positive and blend one of {get_args(Blend)}, "
                f"got {scale}, {max_defects} and {blend!r}."
            )
            raise ValueError(msg)
        self.folder = Path(folder)
        self.scale = scale
        self.blend = blend
        self.max_defects = max_defects
        self._pool: _Pool | None = None

    def check(self) -> None:
        """Look for pairs of images and masks without reading them.

        Raises:
            FileNotFoundError: If there is no such folder, or no pair in it.
        """
        super().check()
        if self._pool is None:
            _find_pairs(self.folder)

    def load(self) -> int:
        """Read the defects unless that has been done.

        Returns:
            Number of defects.

        Raises:
            FileNotFoundError: If there is no such folder, or no pair in it.
            ValueError: If a file cannot be used.
        """
        return len(self._loaded().sides)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}

    def _loaded(self) -> _Pool:
        if self._pool is None:
            pairs = _find_pairs(self.folder)
            chosen = torch.linspace(0, len(pairs) - 1, min(len(pairs), self.max_defects)).long().tolist()
            self._pool = _stack(
                [_cut_out(image, mask, self.scale) for image, mask in (pairs[int(at)] for at in chosen)]
            )
        return self._pool

    def _draw(self, site: Site, draws: ImageDraws) -> tuple[Window, Tensor, Tensor]:
        device = site.images.device
        pool = self._loaded()
        drawn = draws.choice([1.0] * len(pool.sides))
        crops = pool.pixels.index_select(0, drawn).to(device, non_blocking=True).float() / 255
        largest = 0.9 * min(site.images.shape[2:])
        factor = (0.5 + site.size).minimum(largest / pool.sides[drawn])
        angle, mirror = draws.uniform(0, 2 * math.pi), draws.sign()

        # From a pixel's offset from the centre to its position in the square of the crop, -1 to 1.
        half = crops.shape[3] / 2
        window = site.window(float((factor * pool.sides[drawn]).max()) * 1.5)
        cos, sin = angle.cos() / (factor * half), angle.sin() / (factor * half)
        rows, columns = (offsets[:, 0] for offsets in window.offsets())
        cos, sin, mirror = (values.to(device, non_blocking=True)[:, None, None] for values in (cos, sin, mirror))
        grid = torch.stack([(columns * cos + rows * sin) * mirror, rows * cos - columns * sin], dim=-1)
        pasted = F.grid_sample(crops, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        colour, mask = pasted[:, :3], pasted[:, 3:] > 0.5
        colour = colour if site.images.shape[1] == 3 else colour.mean(1, keepdim=True)
        opacity = column(0.55 + 0.45 * site.opacity, device)
        return window, *blend(window.images, colour, mask, self.blend, opacity)


def _find_pairs(folder: Path) -> Sequence[tuple[Path, Path]]:
    """Images and masks below ``folder``: a mask belongs to the image of its stem in a folder of the same name."""
    if not folder.is_dir():
        msg = f"Defect folder {folder} does not exist. Give a folder with images and masks (name.png, name_mask.png)."
        raise FileNotFoundError(msg)
    paths = find_readable_files(folder, "Defect folder")
    images = {(path.parent.name, path.stem): path for path in paths if not path.stem.endswith(_SUFFIX)}
    masks = {(path.parent.name, path.stem.removesuffix(_SUFFIX)): path for path in paths if path.stem.endswith(_SUFFIX)}
    pairs = [(images[key], mask) for key, mask in masks.items() if key in images]
    if not pairs:
        msg = f"Defect folder {folder} holds no image with a mask beside it (name.png and name{_SUFFIX}.png)."
        raise FileNotFoundError(msg)
    return pairs


def _cut_out(image_path: Path, mask_path: Path, scale: float) -> Tensor:
    """Read the part of an image around its mask and scale it, (4, h, w) uint8."""
    try:
        with (
            Image.open(image_path, formats=IMAGE_FORMATS) as image,
            Image.open(mask_path, formats=IMAGE_FORMATS) as mask,
        ):
            colour, label = np.array(image.convert("RGB")), np.array(mask.convert("RGB")).max(2) > 127
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        msg = f"Defect {image_path} with mask {mask_path} cannot be read: {error}."
        raise ValueError(msg) from error
    if colour.shape[:2] != label.shape or not label.any():
        msg = f"The mask {mask_path} must have the size of {image_path} and must not be black."
        raise ValueError(msg)
    rows, columns = np.flatnonzero(label.any(1)), np.flatnonzero(label.any(0))
    margin = math.ceil(_MARGIN / min(scale, 1))
    window = np.s_[rows[0] : rows[-1] + 1 + 2 * margin, columns[0] : columns[-1] + 1 + 2 * margin]
    colour = np.pad(colour, ((margin, margin), (margin, margin), (0, 0)), mode="edge")[window]
    label = np.pad(label, margin)[window]
    cut = np.concatenate([colour, label[..., None] * np.uint8(255)], 2)
    crop = torch.from_numpy(cut).permute(2, 0, 1)
    if scale == 1:
        return crop
    return tv.resize(crop, [max(1, round(side * scale)) for side in crop.shape[1:]], antialias=True)


def _stack(crops: Sequence[Tensor]) -> _Pool:
    anchors = [_thickest(crop[3:]) for crop in crops]
    reach = max(
        max(anchor, side - 1 - anchor)
        for crop, place in zip(crops, anchors, strict=True)
        for anchor, side in zip(place, crop.shape[1:], strict=True)
    )
    pixels = torch.zeros(len(crops), 4, 2 * reach + 1, 2 * reach + 1, dtype=torch.uint8)
    for square, crop, (row, column_) in zip(pixels, crops, anchors, strict=True):
        height, width = crop.shape[1:]
        square[:, reach - row : reach - row + height, reach - column_ : reach - column_ + width] = crop
        square[3, reach, reach] = 255  # scaled down, a thin defect may have no full pixel left
    return _Pool(pixels, torch.tensor([float(max(crop.shape[1:])) for crop in crops]))


def _thickest(mask: Tensor) -> tuple[int, int]:
    """Row and column of the pixel of a mask (1, H, W) with the most of it around."""
    near = F.avg_pool2d((mask > 127).float() + mask / 255 * 1e-3, 7, 1, 3)
    near = torch.where(mask == mask.max(), near, -1.0)
    place = int(near.argmax())
    return place // mask.shape[2], place % mask.shape[2]
