"""Survey of a folder of images: files, sizes, colours, exact copies and images of the same part."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from anomalib_plus.files import file_hash
from anomalib_plus.image_files import find_image_files, inspect_image, printable, too_small
from anomalib_plus.validation.image_groups import group_images, thumbnail_of

_GREY_TOLERANCE = 8
"""Largest difference of the colour channels in a grey image; JPEG adds a few levels."""


@dataclass(frozen=True)
class SurveyedImage:
    """One usable image: what its file and its pixels say."""

    path: Path
    sha256: str
    size: tuple[int, int]
    """Width and height."""
    is_grey: bool
    is_turned: bool
    """True if the file says (EXIF) that its pixels are to be turned, which neither anomalib nor an inspector does."""
    thumbnail: NDArray[np.int16]
    """Sums of the three channels (32, 32)."""


@dataclass(frozen=True)
class Survey:
    """Facts about the images in a folder.

    Args:
        folder: The folder.
        images: Images that are used, one of each set of exact copies, sorted by path.
        unusable: Files that cannot be used, with the reason.
        copies: Exact copies, which are left out, with the image that is kept.
        groups: For each image the name of its group; images of one group show the same part.
        remarks: Sentences on the groups.
    """

    folder: Path
    images: list[SurveyedImage]
    unusable: list[tuple[str, str]] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of images of each width and height."""
        return Counter(image.size for image in self.images)

    @property
    def group_of(self) -> dict[str, str]:
        """Name of each image's group, by its path."""
        return {str(image.path): group for image, group in zip(self.images, self.groups, strict=True)}

    @property
    def is_grey(self) -> bool:
        """True if no image has colours."""
        return all(image.is_grey for image in self.images)


def survey(folder: Path, group_by: str | None = None) -> Survey:
    """Survey the images in a folder and its subfolders.

    ``group_by`` is a regular expression, searched in each path relative to the folder: images with the same first
    group, or without one the same match, show the same part. None groups by names and near-copies.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If ``group_by`` is no regular expression or matches no image.
    """
    if not folder.is_dir():
        msg = f"There is no folder {printable(folder)}: give a folder of images of good parts."
        raise FileNotFoundError(msg)
    images: list[SurveyedImage] = []
    unusable, copies = [], []
    kept: dict[str, str] = {}
    for path in sorted(find_image_files(folder)):
        name = path.relative_to(folder).as_posix()
        found = survey_image(path)
        if isinstance(found, str):
            unusable.append((name, found))
        elif found.sha256 in kept:
            copies.append((name, kept[found.sha256]))
        else:
            kept[found.sha256] = name
            images.append(found)
    names = [image.path.relative_to(folder).as_posix() for image in images]
    groups, remarks = group_images(names, [image.thumbnail for image in images], group_by)
    return Survey(folder, images, unusable, copies, groups, remarks)


def survey_image(path: Path) -> SurveyedImage | str:
    """Read an image; the reason as the predicate of a sentence if it cannot be used."""
    facts = inspect_image(path, decode=True)
    if facts.fault or facts.size is None:
        return facts.fault or "cannot be read"
    if fault := too_small(facts.size[1], facts.size[0]):
        return fault
    with Image.open(path) as opened:
        image, is_turned = opened.convert("RGB"), _is_turned(opened)
    small = thumbnail_of(image)
    return SurveyedImage(
        path=path,
        sha256=file_hash(path),
        size=facts.size,
        is_grey=bool((small.max(axis=2) - small.min(axis=2)).max() <= _GREY_TOLERANCE),
        is_turned=is_turned,
        thumbnail=small.sum(axis=2, dtype=np.int16),
    )


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # damaged EXIF data fail in many ways, and say nothing
        return False
