"""Regions in which defects may lie: a mask, a file, or Otsu's foreground; and points drawn inside."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomalib_plus.image_files import IMAGE_FORMATS
from anomalib_plus.transforms.foreground import Polarity, otsu_foreground

FOREGROUND: Literal["foreground"] = "foreground"
EVERYWHERE: Literal["everywhere"] = "everywhere"
RegionOfInterest = Tensor | str | Path | None


class Region:
    """The region of interest of a transform.

    A file is read once, at the first use or by :meth:`check`; the mask belongs to the process and is left out when the
    region is pickled.

    Args:
        roi: Mask (H, W) or one per image of a batch, (B, H, W) or (B, 1, H, W), where what is not 0 is allowed; path of
            an image file with such a mask; "foreground", the object in each image; "everywhere" or None for no limit.
        polarity: Side of Otsu's threshold that is the object; "auto" takes the one that is rarer at the image border.

    Raises:
        ValueError: If a mask has another number of axes or allows no pixel, or if an argument is unknown.
    """

    def __init__(self, roi: RegionOfInterest = None, polarity: Polarity = "auto") -> None:
        if not (roi is None or isinstance(roi, Tensor | str | Path)):
            msg = f"roi must be a mask, a path, {FOREGROUND!r}, {EVERYWHERE!r} or None, got {type(roi).__name__}."
            raise ValueError(msg)
        if polarity not in get_args(Polarity):
            msg = f"foreground_polarity must be one of {get_args(Polarity)}, got {polarity!r}."
            raise ValueError(msg)
        self.roi = roi
        self.polarity = polarity
        self._mask = _as_masks(roi, "roi") if isinstance(roi, Tensor) else None

    @property
    def is_everywhere(self) -> bool:
        """True if there is no restriction."""
        return self.roi is None or (isinstance(self.roi, str) and self.roi == EVERYWHERE)

    @property
    def is_foreground(self) -> bool:
        """True if the region is the object in each image."""
        return isinstance(self.roi, str) and self.roi == FOREGROUND

    @property
    def mask(self) -> Tensor:
        """Mask of a file or tensor, (B, 1, H, W), boolean, in its own size.

        Raises:
            ValueError: If the region is not a mask.
        """
        self.check()
        if self._mask is None:
            msg = f"The region of interest {self.roi} is not a mask."
            raise ValueError(msg)
        return self._mask

    def check(self) -> None:
        """Read the mask if it is a file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no image or allows no pixel.
        """
        if self._mask is None and not self.is_everywhere and not self.is_foreground:
            self._mask = _as_masks(_read_mask(Path(str(self.roi))), f"The region of interest {self.roi}")

    def masks(self, images: Tensor) -> Tensor:
        """Return where defects may lie, (B, 1, H, W) bool, at least one pixel per image.

        Args:
            images: (B, C, H, W), values in [0, 1].

        Raises:
            ValueError: If the mask has another size than the images, or there is another number of masks.
        """
        count, channels, height, width = images.shape
        if self.is_everywhere:
            return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=images.device).expand(count, 1, height, width)
        if self.is_foreground:
            return otsu_foreground(images.expand(-1, 3, -1, -1) if channels == 1 else images, self.polarity)
        self.check()
        mask = self._mask
        if mask is None or mask.shape[2:] != images.shape[2:] or len(mask) not in {1, count}:
            found = "?" if mask is None else f"{len(mask)} of {mask.shape[2]}x{mask.shape[3]}"
            msg = (
                f"The region of interest does not fit: masks {found}, images {count} of {height}x{width}. "
                "Give a mask of the size that the images have in training, or one per image."
            )
            raise ValueError(msg)
        return mask.to(images.device, non_blocking=True).expand(count, -1, -1, -1)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({} if isinstance(self.roi, Tensor) else {"_mask": None})


def points_inside(masks: Tensor, draws: Tensor) -> Tensor:
    """Choose one pixel of each mask, all equally likely.

    Args:
        masks: (B, 1, H, W), bool.
        draws: (B,), uniform in [0, 1); from the host.

    Returns:
        (B, 2) float32 on the device of the masks, row and column; the middle of the image if a mask is empty.
    """
    height, width = masks.shape[2:]
    in_rows = masks[:, 0].sum(2)
    up_to_row = in_rows.cumsum(1)
    total = up_to_row[:, -1:]
    wanted = (draws.double().to(masks.device, non_blocking=True)[:, None] * total).long().clamp_max(total - 1) + 1
    row = torch.searchsorted(up_to_row, wanted).clamp_max(height - 1)
    wanted = wanted - (up_to_row - in_rows).gather(1, row)  # in that row
    own_row = masks[:, 0].gather(1, row[..., None].expand(-1, 1, width))[:, 0]
    column = torch.searchsorted(own_row.cumsum(1), wanted)
    middle = torch.tensor([[height // 2, width // 2]]).to(row)
    return torch.where(total > 0, torch.cat([row, column], 1), middle).float()


def _as_masks(values: Tensor, name: str) -> Tensor:
    """Give a mask the shape (B, 1, H, W), bool, on the host."""
    masks = values.detach().cpu() != 0
    if masks.ndim == 2:
        masks = masks[None, None]
    elif masks.ndim == 3:
        masks = masks[:, None]
    if masks.ndim != 4 or masks.shape[1] != 1:
        msg = f"{name} must have the shape (H, W), (B, H, W) or (B, 1, H, W), got {tuple(values.shape)}."
        raise ValueError(msg)
    if not masks.flatten(1).any(1).all():
        msg = f"{name} allows no pixel: the mask is black. Give a mask that is not 0 where defects may lie."
        raise ValueError(msg)
    return masks


def _read_mask(path: Path) -> Tensor:
    if not path.is_file():
        msg = f"The region of interest {path} does not exist. Give an image file, {FOREGROUND!r} or {EVERYWHERE!r}."
        raise FileNotFoundError(msg)
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            pixels = np.array(image.convert("RGB")).max(2)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        msg = f"The region of interest {path} cannot be read as an image: {error}."
        raise ValueError(msg) from error
    return torch.from_numpy(pixels)
