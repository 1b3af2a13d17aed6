"""Checks for missing masks and broken links, on which anomalib's datamodules fail without naming the file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from anomalib.data import Folder, MVTecAD
from anomalib.data.datasets.image.mvtecad import IMG_EXTENSIONS as MVTEC_EXTENSIONS
from anomalib.data.utils.image import is_image_file
from anomalib.data.utils.path import is_within_directory, resolve_path
from lightning.pytorch import LightningDataModule
from torchvision.datasets.folder import IMG_EXTENSIONS

from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable

Folders = str | Path | Sequence[str | Path] | None


def check_mask_pairs(datamodule: LightningDataModule | None) -> None:
    """Compare the anomalous images of an ``MVTecAD`` or ``Folder`` datamodule with its mask files.

    anomalib pairs both in sorted order; this lists them as it does. Call it before the datamodule's ``setup``. Other
    datamodules are ignored.

    Raises:
        ValueError: If an image has no mask, a mask has no image or anomalib would pair them wrongly.
    """
    if isinstance(datamodule, MVTecAD):
        images = [path for path in _mvtec_files(datamodule, "test/*/*") if path.parent.name != "good"]
        masks = _mvtec_files(datamodule, "ground_truth/*/*")
    elif isinstance(datamodule, Folder) and datamodule.abnormal_dir and datamodule.mask_dir:
        images, masks = (_folder_files(datamodule, each) for each in (datamodule.abnormal_dir, datamodule.mask_dir))
    else:
        return
    in_order = all(image.stem in mask.stem for image, mask in zip(images, masks, strict=False))
    if len(images) != len(masks) or not in_order:
        conjunction = "and" if len(images) == len(masks) else "but"
        numbers = f"{counted(len(images), 'anomalous image')} {conjunction} {counted(len(masks), 'mask')}"
        msg = f"{numbers}. {_explain(images, masks)}"
        raise ValueError(msg)


def check_links(datamodule: LightningDataModule | None) -> None:
    """Raise ``ValueError`` if an image file is a broken link. Call it before the datamodule's ``setup``.

    Searches the folders of a ``Folder``, or ``root/category``, but never all of ``root``, which may be large.
    """
    if isinstance(datamodule, Folder):
        named = (datamodule.normal_dir, datamodule.abnormal_dir, datamodule.normal_test_dir, datamodule.mask_dir)
        searched = [path for folders in named for path in _folder_files(datamodule, folders)]
    elif isinstance(datamodule, MVTecAD):
        searched = _mvtec_files(datamodule, "**/*")
    elif category := getattr(datamodule, "category", None):
        folder = Path(getattr(datamodule, "root", None) or "") / category
        searched = sorted(path for path in folder.rglob("*") if is_image_file(path))
    else:
        return
    broken = [path for path in searched if path.is_symlink() and not path.exists()]
    if broken:
        links = counted(len(broken), "image is a broken link", "images are broken links")
        msg = f"{links}; repair or remove: {shorten(broken)}."
        raise ValueError(msg)


def describe_unpaired(masks_of: Mapping[Path, Sequence[Path]], masks: Sequence[Path]) -> str | None:
    """Name the images without a mask and the masks without an image, in two sentences; None if there are none."""
    used = {mask for found in masks_of.values() for mask in found}
    without, unused = [image for image, found in masks_of.items() if not found], [m for m in masks if m not in used]
    if not (without or unused):
        return None
    return f"Images without a mask: {shorten(without)}. Masks without an image: {shorten(unused)}."


def shorten(paths: Sequence[Path | str], shown: int = 3) -> str:
    """Format the first few paths and the number of the others; "none" for an empty list."""
    names = ", ".join(printable(path) for path in paths[:shown]) or "none"
    return names if len(paths) <= shown else f"{names} and {len(paths) - shown} more"


def _explain(images: Sequence[Path], masks: Sequence[Path]) -> str:
    """Give the first reason why images and masks do not pair in order, and the remedy."""
    masks_of = masks_by_name(images, masks)
    if unpaired := describe_unpaired(masks_of, masks):
        return f"{unpaired} A mask has the name of its image, or that name with an ending such as _mask."
    for image, found in masks_of.items():
        rivals = [other for other in images if set(masks_of[other]) & set(found)]
        if len(rivals) > 1 and len(images) > len(masks):
            return (
                f"Several images share the mask {printable(found[0])}: {shorten(rivals)}. "
                'Remove or rename all but one, or select by Folder(extensions=(".png",)).'
            )
        if len(found) > 1 and len(masks) > len(images):
            return f"{printable(image)} has several masks: {shorten(found)}. Merge them, or remove all but one."
    image, mask = next((image, mask) for image, mask in zip(images, masks, strict=True) if mask not in masks_of[image])
    return (
        f"Every image has a mask, but anomalib pairs them in sorted order, which pairs {printable(image)} with "
        f"{printable(mask)}. Pad the numbers in the names of images and masks with zeros to one length (01.png, "
        "01_mask.png), or give each mask exactly the name of its image."
    )


def masks_by_name(images: Sequence[Path], masks: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the masks of each image by their names.

    A mask belongs to an image if its name contains the image's name as a word (``000_mask`` and ``000``). Where images
    and masks lie in folders of the same names (``test/scratch``, ``ground_truth/scratch``), the folders must agree too.
    """
    nested = bool({path.parent.name for path in images} & {path.parent.name for path in masks})

    def belong(image: Path, mask: Path) -> bool:
        same_name = re.search(rf"(?<![A-Za-z0-9]){re.escape(image.stem)}(?![A-Za-z0-9])", mask.stem)
        return bool(same_name) and (not nested or image.parent.name == mask.parent.name)

    return {image: [mask for mask in masks if belong(image, mask)] for image in images}


def _folder_files(datamodule: Folder, folders: Folders) -> list[Path]:
    """List the files that anomalib's ``Folder`` finds, in its order."""
    listed = [] if folders is None else [folders] if isinstance(folders, str | Path) else folders
    endings = {extension.lower() for extension in datamodule.extensions or IMG_EXTENSIONS}
    found = (path for folder in listed for path in resolve_path(folder, datamodule.root).glob("**/*"))
    return sorted(path for path in found if path.suffix.lower() in endings and not path.is_dir())


def _mvtec_files(datamodule: MVTecAD, pattern: str) -> list[Path]:
    """List the files that anomalib's ``MVTecAD`` finds, in its order."""
    category = (Path(datamodule.root) / datamodule.category).resolve()
    found = (path for path in category.glob(pattern) if path.suffix in MVTEC_EXTENSIONS)
    return sorted((path for path in found if is_within_directory(category, path)), key=str)
