"""What anomalib's datamodules fail on without naming it: missing masks, which they pair by order, and broken links."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from anomalib.data import Folder, MVTecAD
from anomalib.data.utils.image import is_image_file
from lightning.pytorch import LightningDataModule

from anomalib_plus.data.image_files import printable


def check_mask_pairs(datamodule: LightningDataModule | None) -> None:
    """Compare the anomalous images of an ``MVTecAD`` or ``Folder`` datamodule with its mask files.

    Call it before the datamodule's ``setup``. Other datamodules are left to :class:`ImageFileCheck`.

    Raises:
        ValueError: If an image has no mask or a mask has no image; the message names them.
    """
    if isinstance(datamodule, MVTecAD):
        category = Path(datamodule.root) / datamodule.category
        kinds = [folder for folder in (category / "test").glob("*") if folder.name != "good"]
        images, masks = _images_below(kinds), _images_below([category / "ground_truth"])
    elif isinstance(datamodule, Folder) and datamodule.abnormal_dir and datamodule.mask_dir:
        root = Path(datamodule.root or "")
        images, masks = (
            _images_below(root / folder for folder in _as_list(folders))
            for folders in (datamodule.abnormal_dir, datamodule.mask_dir)
        )
    else:
        return
    in_order = all(image.stem in mask.stem for image, mask in zip(images, masks, strict=False))
    if len(images) != len(masks) or not in_order:
        unpaired_images, unpaired_masks = find_unpaired(images, masks)
        msg = (
            f"{len(images)} anomalous images but {len(masks)} masks. "
            f"Images without a mask: {shorten(unpaired_images)}. Masks without an image: {shorten(unpaired_masks)}. "
            "A mask has the name of its image, or that name with an ending such as _mask."
        )
        raise ValueError(msg)


def check_links(datamodule: LightningDataModule | None) -> None:
    """Look for links with the names of images that lead nowhere. Call it before the datamodule's ``setup``.

    Looks through the folders of a ``Folder`` and through ``root/category``; nothing else, because a root may hold much.

    Raises:
        ValueError: If there are any; the message names them.
    """
    root = Path(getattr(datamodule, "root", None) or "")
    if isinstance(datamodule, Folder):
        named = (datamodule.normal_dir, datamodule.abnormal_dir, datamodule.normal_test_dir, datamodule.mask_dir)
        searched = [root / folder for folders in named if folders for folder in _as_list(folders)]
    else:
        searched = [root / category] if (category := getattr(datamodule, "category", None)) else []
    broken = [path for path in _images_below(searched) if path.is_symlink() and not path.exists()]
    if broken:
        msg = f"Links to images that lead nowhere ({len(broken)}); repair or remove them: {shorten(broken)}."
        raise ValueError(msg)


def find_unpaired(images: Sequence[Path], masks: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images without a mask and masks without an image.

    A mask belongs to an image whose name is a word of its own name (``000`` of ``000_mask``) and, where images and
    masks lie in folders of the same names (``test/scratch``, ``ground_truth/scratch``), whose folder it shares.
    """
    nested = bool({path.parent.name for path in images} & {path.parent.name for path in masks})

    def belong(image: Path, mask: Path) -> bool:
        same_name = re.search(rf"(?<![A-Za-z0-9]){re.escape(image.stem)}(?![A-Za-z0-9])", mask.stem)
        return bool(same_name) and (not nested or image.parent.name == mask.parent.name)

    without_mask = [image for image in images if not any(belong(image, mask) for mask in masks)]
    without_image = [mask for mask in masks if not any(belong(image, mask) for image in images)]
    return without_mask, without_image


def shorten(paths: Sequence[Path], shown: int = 3) -> str:
    """The first few paths and how many more there are; "none" for an empty list."""
    names = ", ".join(printable(path) for path in paths[:shown]) or "none"
    return names if len(paths) <= shown else f"{names} and {len(paths) - shown} more"


def _as_list(folders: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [folders] if isinstance(folders, str | Path) else folders


def _images_below(folders: Iterable[Path]) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if is_image_file(path))
