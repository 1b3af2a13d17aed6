"""Foregrounds: masks of the object, outside of which nothing counts as an anomaly.

A foreground is an ``nn.Module`` that maps images (B, 3, H, W) in [0, 1] to masks (B, 1, H, W) in [0, 1], 1 on the
object: one of those below, or your own around a segmentation network. If it has the attribute
``needs_image_paths = True``, it is called with the images and the list of their files.

Masks should extend a few pixels beyond the object, because missing or protruding parts lie outside of its outline.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from anomalib.data.transforms.utils import extract_transforms_by_type
from lightning.pytorch import LightningModule
from PIL import Image
from skimage.segmentation import flood
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize
from torchvision.transforms.v2.functional import pil_to_tensor

from anomalib_plus.image_files import inspect_image, printable
from anomalib_plus.layers.checks import check_choice
from anomalib_plus.transforms.foreground import Polarity, otsu_foreground

_MASK_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif"})
_FILE_SUFFIXES = _MASK_SUFFIXES | {".bmp", ".tif", ".tiff", ".pgm", ".ppm"}
_OTSU = frozenset({"foreground", "otsu"})
_NAME = "foreground"


class OtsuForeground(nn.Module):
    """Foreground by Otsu's threshold, with holes filled, then dilated; computed on the CPU, so it cannot be exported.

    Args:
        polarity: Side of the threshold that is the object; "auto" takes the one that is rarer at the image border.
        dilation: Pixels by which the mask grows in every direction.

    Raises:
        ValueError: If ``polarity`` is unknown or ``dilation`` negative.
    """

    def __init__(self, polarity: Polarity = "auto", dilation: int = 4) -> None:
        super().__init__()
        check_choice("polarity", polarity, Polarity)
        _check_dilation(dilation)
        self.polarity: Polarity = polarity
        self.dilation = dilation

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to masks (B, 1, H, W) of 0 and 1.

        The mask is all ones if Otsu's threshold finds hardly any foreground, or hardly anything else.
        """
        if torch.compiler.is_exporting():
            msg = (
                "OtsuForeground runs on the CPU and cannot be exported to ONNX or OpenVINO. Remove the background "
                "outside the exported model, or set a foreground that is a network."
            )
            raise RuntimeError(msg)
        objects = otsu_foreground(images, self.polarity)
        filled = np.stack([fill_holes(mask) for mask in objects[:, 0].cpu().numpy()])
        return dilate(torch.from_numpy(filled).unsqueeze(1).to(images), self.dilation)


class MaskFolder(nn.Module):
    """Foreground read from mask files, which are found by the image's name.

    The mask of ``.../crack/007.png`` is ``crack/007.*`` anywhere below the folder, or else the only ``007.*``. What is
    not 0 counts. The folder is searched at first use.

    Args:
        folder: Folder of masks, 8-bit images of any size.
        dilation: Pixels of the model's input by which each mask grows in every direction.

    Raises:
        ValueError: If ``dilation`` is negative.
    """

    needs_image_paths = True

    def __init__(self, folder: str | Path, dilation: int = 0) -> None:
        super().__init__()
        _check_dilation(dilation)
        self.folder = Path(folder)
        self.dilation = dilation
        self._files: dict[str, list[Path]] | None = None

    @property
    def files(self) -> dict[str, list[Path]]:
        """Mask files by stem."""
        if self._files is None:
            if not self.folder.is_dir():
                msg = f"The folder of foreground masks {self.folder} does not exist. Check foreground."
                raise FileNotFoundError(msg)
            files: dict[str, list[Path]] = defaultdict(list)
            for file in sorted(self.folder.rglob("*")):
                if file.suffix.lower() in _MASK_SUFFIXES and file.is_file():  # reading a pipe could block forever
                    files[file.stem].append(file)
            self._files = dict(files)
        return self._files

    def find(self, image_path: str | Path) -> Path:
        """Find the mask file of an image; raise ``FileNotFoundError`` for none, ``ValueError`` for several."""
        image = Path(image_path)
        candidates = self.files.get(image.stem, [])
        beside = [file for file in candidates if file.parent.name == image.parent.name]
        chosen = beside or candidates
        if not chosen:
            msg = f"There is no foreground mask of {image} below {self.folder}: add {image.stem}.png."
            raise FileNotFoundError(msg)
        if len(chosen) > 1:
            names = ", ".join(str(file.relative_to(self.folder)) for file in chosen)
            msg = f"Several foreground masks match {image}: {names}. Arrange them in folders like the images."
            raise ValueError(msg)
        return chosen[0]

    def forward(self, images: Tensor, image_paths: Sequence[str]) -> Tensor:
        """Read the masks (B, 1, H, W), 0 or 1, of images (B, 3, H, W); errors are those of :meth:`find`."""
        masks = []
        for image_path in image_paths:
            file = self.find(image_path)
            if fault := inspect_image(file, decode=True).fault:
                msg = f"The foreground mask {printable(file)} {fault}."
                raise ValueError(msg)
            with Image.open(file) as mask_image:  # torchvision's decode_image crashes on damaged PNGs
                mask = pil_to_tensor(mask_image.convert("RGB").convert("L")).unsqueeze(0)
            masks.append(F.interpolate(mask, images.shape[-2:], mode="nearest"))
        return dilate((torch.cat(masks) != 0).to(images), self.dilation)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill holes of a mask (H, W): flood the background from outside the image, and return the rest, boolean."""
    return ~flood(np.pad(mask, 1), (0, 0), connectivity=1)[1:-1, 1:-1]


def dilate(masks: Tensor, pixels: int) -> Tensor:
    """Grow masks (B, 1, H, W) by a square of ``2 * pixels + 1``."""
    return F.max_pool2d(masks, 2 * pixels + 1, stride=1, padding=pixels) if pixels else masks


def is_mask_file(choice: str | Path) -> bool:
    """Return True if a path is that of one mask, not of a folder of masks, whether it exists or not."""
    path = Path(choice)
    return path.is_file() or (path.suffix.lower() in _FILE_SUFFIXES and not path.is_dir())


def make_foreground(choice: str | Path | nn.Module | None) -> nn.Module | None:
    """Build what computes a region per image from None, "foreground" or "otsu", a folder of masks, or a module."""
    if choice is None or isinstance(choice, nn.Module):
        return choice
    if isinstance(choice, str | Path):
        return OtsuForeground() if str(choice) in _OTSU else MaskFolder(choice)
    msg = (
        "roi must be None, a mask (image file or array), a folder of masks, 'foreground' or an nn.Module, got "
        f"{type(choice).__name__}."
    )
    raise TypeError(msg)


def foreground_masks(foreground: nn.Module, images: Tensor, image_paths: Sequence[str] | None = None) -> Tensor:
    """Compute the masks (B, 1, H, W) of images (B, 3, H, W) in [0, 1], and check their shape."""
    if getattr(foreground, "needs_image_paths", False):
        if image_paths is None:
            msg = (
                f"{type(foreground).__name__} needs the paths of the images, which are unknown here: use Engine.test "
                "or Engine.predict. It cannot be exported."
            )
            raise ValueError(msg)
        masks = foreground(images, image_paths)
    else:
        masks = foreground(images)
    expected = (images.shape[0], 1, *images.shape[-2:])
    if tuple(masks.shape) != expected:
        msg = f"{type(foreground).__name__} must return masks of shape {expected}, got {tuple(masks.shape)}."
        raise ValueError(msg)
    return masks


def undo_normalization(images: Tensor, pl_module: LightningModule) -> Tensor:
    """Invert the ``Normalize`` transforms of the model's pre-processor; (B, 3, H, W) in [0, 1]."""
    pre_processor = getattr(pl_module, "pre_processor", None)
    for normalize in extract_transforms_by_type(getattr(pre_processor, "transform", None), Normalize):
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (normalize.mean, normalize.std))
        images = images * std + mean
    return images.clamp(0, 1)


def hold_foreground(owner: nn.Module) -> None:
    """Register an empty submodule ``foreground`` outside of the state dict: checkpoints load with and without."""
    owner.register_module(_NAME, None)
    owner.register_state_dict_post_hook(_remove_entries)
    owner.register_load_state_dict_post_hook(_ignore_missing_entries)


def set_foreground(owner: nn.Module, foreground: nn.Module | None) -> None:
    """Set the submodule registered by :func:`hold_foreground`, frozen and in evaluation mode."""
    if foreground is not None:
        foreground.requires_grad_(False).eval()
    owner.register_module(_NAME, foreground)


def _remove_entries(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    del module, metadata
    for key in [key for key in state if key.startswith(f"{prefix}{_NAME}.")]:
        del state[key]


def _ignore_missing_entries(module: nn.Module, keys: Any) -> None:
    del module
    keys.missing_keys[:] = [key for key in keys.missing_keys if _NAME not in key.split(".")]


def _check_dilation(dilation: int) -> None:
    if dilation < 0:
        msg = f"dilation must not be negative, got {dilation}."
        raise ValueError(msg)
