"""Images to select a model by: good ones, with synthetic defects or the user's bad parts."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomalib_plus.counts import counted
from anomalib_plus.data.mask_pairs import describe_unpaired, masks_by_name
from anomalib_plus.image_files import find_image_files, inspect_image, inspect_mask, printable

FOLDER = "selection"
_DEFECTS_PER_IMAGE = 2
_ENLARGEMENT = 4
"""Smallest ratio of the sides of reduced images to those of the networks' input."""


def entry(
    image: Path, source: str, label: int = 0, mask: Path | None = None, kind: str = "good", part: str | None = None
) -> dict[str, Any]:
    """Return one image as plain data.

    ``source`` is the image of the part that it was made from, ``part`` the name of that part, None for one that no
    other image shows.
    """
    mask_file = str(mask) if mask else None
    described = {"image": str(image), "label": label, "mask": mask_file, "source": source, "kind": kind}
    return {**described, "part": part or source}


def good_parts(images: Sequence[Path], part_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """List images of good parts as they are; ``part_of`` names the part of each, by its path."""
    return [entry(path, str(path), part=part_of[str(path)]) for path in images]


def write_synthetic(
    images: Sequence[Path],
    part_of: Mapping[str, str],
    folder: Path,
    seed: int,
    roi: Path | None = None,
    image_size: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """Write each good image, varied in light and position, and two copies with one defect each, with their masks.

    The folder's content is replaced. The images are the same for a seed.

    Args:
        images: Files of the good images.
        part_of: Name of the part that each image shows, by its path.
        folder: Folder to write to.
        seed: Seed of everything drawn.
        roi: Image file; defects lie where it is not black.
        image_size: Height and width of the networks' input. Images of more than four times these sides are reduced to
            that first, because defects on a camera's full image take ten seconds each. None reduces none.
    """
    from anomalib_plus import Nuisance
    from anomalib_plus.validation.dataset import SyntheticValidationDataset
    from anomalib_plus.validation.kinds import default_kinds

    shutil.rmtree(folder, ignore_errors=True)
    for name in ("good", "defective", "masks", "reduced"):
        (folder / name).mkdir(parents=True)
    reduced = folder / "reduced"
    numbers = {_reduced(path, reduced / f"{number:04d}.png", image_size): number for number, path in enumerate(images)}
    kinds = default_kinds(roi=_reduced(roi, reduced / "roi.png", image_size, is_mask=True) if roi else None)
    entries = []
    for copy in range(_DEFECTS_PER_IMAGE):
        dataset = SyntheticValidationDataset(list(numbers), kinds, Nuisance(), seed + copy)
        for row in dataset.samples.itertuples():
            if copy == 0 or row.label_index:
                number = numbers[row.image_path]
                source = str(images[number])
                entries.append(_write(dataset, row, folder, f"{number:04d}_{copy}", source, part_of[source]))
    return entries


def _reduced(image: Path, file: Path, image_size: tuple[int, int] | None, is_mask: bool = False) -> str:
    """Write a reduced copy; return its path, or that of the image if it is not larger than wanted."""
    from PIL import Image

    if image_size is None:
        return str(image)
    with Image.open(image) as opened:
        height, width = (_ENLARGEMENT * side for side in image_size)
        factor = max(height / opened.height, width / opened.width)
        if factor >= 1:
            return str(image)
        size = round(factor * opened.width), round(factor * opened.height)
        mode, filtering = ("L", Image.Resampling.NEAREST) if is_mask else ("RGB", Image.Resampling.BILINEAR)
        opened.convert(mode).resize(size, filtering).save(file)
    return str(file)


def _write(dataset: Any, row: Any, folder: Path, name: str, source: str, part: str) -> dict[str, Any]:
    from PIL import Image
    from torchvision.transforms.v2.functional import to_pil_image

    defective = bool(row.label_index)
    image, mask = dataset.make(row)
    file = folder / ("defective" if defective else "good") / f"{name}.png"
    to_pil_image(image).save(file)
    mask_file = folder / "masks" / file.name if defective else None
    if mask_file:
        Image.fromarray(mask.numpy() * 255).save(mask_file)
    return entry(file, source, int(defective), mask_file, row.kind, part)


def bad_parts(bad: Path, masks: Path | None) -> list[dict[str, Any]]:
    """List the user's images of bad parts with their masks.

    A mask has the name of its image, or that name with an ending such as ``_mask``.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If there are no images, or images and masks do not pair.
    """
    for option, folder in (("--bad", bad), ("--masks", masks)):
        if folder is not None and not folder.is_dir():
            msg = f"There is no folder {printable(folder)}: correct {option}, or leave it out."
            raise FileNotFoundError(msg)
    images = sorted(find_image_files(bad))
    if not images:
        msg = f"{printable(bad)} holds no image: give a folder of images of bad parts, or leave out --bad."
        raise ValueError(msg)
    found: dict[Path, Path | None] = dict.fromkeys(images)
    if masks is not None:
        files = sorted(find_image_files(masks))
        masks_of = masks_by_name(images, files)
        # 1_2_mask has the names of both 1 and 1_2 in it, and 1_mask is shorter.
        found = {image: min(named, key=lambda mask: len(mask.stem)) for image, named in masks_of.items() if named}
        if not len(set(found.values())) == len(images) == len(files):
            reason = describe_unpaired(masks_of, files) or "Some images have several masks or share one."
            numbers = f"{counted(len(images), 'image')} of bad parts, {counted(len(files), 'mask')}"
            msg = f"{numbers}. {reason} Give each image one mask of the same name, or leave out --masks."
            raise ValueError(msg)
        _check_sizes(found)
    return [entry(image, str(image), 1, mask, "bad part") for image, mask in found.items()]


def _check_sizes(found: dict[Path, Path | None]) -> None:
    for image, mask in found.items():
        if mask is None:
            continue
        size = inspect_image(image).size  # None if it cannot be opened, of which the check of the images will tell
        facts = inspect_mask(mask)
        problem = facts.fault or ("is black, which marks no defect" if facts.greys == (0,) else None)
        if problem is None and size is not None and facts.size != size:
            problem = f"has {facts.size} pixels, its image {size}"
        if problem:
            msg = f"{printable(mask)} {problem}: give masks of the size of their images, white on the defects."
            raise ValueError(msg)
