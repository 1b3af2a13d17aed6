"""Survey of a folder of images: files, sizes, colours, exact copies and images of the same part."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from anomalib_plus.files import file_hash
from anomalib_plus.image_files import find_image_files, inspect_image, printable, too_small
from anomalib_plus.inspector.building.similar_images import components, similar_pairs

_THUMBNAIL = 32
_GREY_TOLERANCE = 8
"""Largest difference of the colour channels in a grey image; JPEG adds a few levels."""
_SMALL_GROUP, _GROUP_SHARE = 4, 0.15
"""Images that one part may always have, and their largest share of all."""
_BURSTS = (re.compile(r"(.*\d)[-_. ]?[A-Za-z]$"), re.compile(r"(.*\d)[-_. ]\d{1,2}$"))
"""Names of one burst: ``part_017_a`` and ``part_017_b``, or ``part_017_1`` and ``part_017_2``."""


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
    """Result of a image at a folder.

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
    def is_grey(self) -> bool:
        """True if no image has colours."""
        return all(image.is_grey for image in self.images)


def survey(folder: Path, group_by: str | None = None) -> Survey:
    """Survey the images below a folder.

    Args:
        folder: Folder of images, searched with its subfolders.
        group_by: Regular expression, searched in each path relative to the folder: images with the same first group, or
            without one the same match, show the same part. None to tell by names and near-copies.

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
    groups, remarks = _by_expression(names, group_by) if group_by else _by_appearance(names, images)
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
    small = np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX), np.int16)
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


def _by_expression(names: Sequence[str], expression: str) -> tuple[list[str], list[str]]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        msg = f"--group-by {expression!r} is not a regular expression: {error}."
        raise ValueError(msg) from error
    matches = [pattern.search(name) for name in names]
    if names and not any(matches):
        msg = f"--group-by {expression!r} matches no image, for example not {names[0]!r}: change it, or leave it out."
        raise ValueError(msg)
    keys = [
        name if match is None else (match[1] if pattern.groups else None) or match[0]
        for name, match in zip(names, matches, strict=True)
    ]
    alone = sum(match is None for match in matches)
    remark = f"--group-by {expression!r} makes {len(set(keys))} groups of {len(names)} images"
    return keys, [f"{remark}; {alone} match nothing and stand alone." if alone else f"{remark}."]


def _by_appearance(names: Sequence[str], images: Sequence[SurveyedImage]) -> tuple[list[str], list[str]]:
    """Group images by burst names and by their details."""
    count, remarks = len(names), []
    largest = max(_SMALL_GROUP, int(_GROUP_SHARE * count))
    links = _burst_links(names)
    lumped = _largest(count, links)
    if lumped > largest:
        remarks.append(
            f"By names of one burst, {lumped} of {count} images would be one part, so this rule is not used. If "
            "several images show one part, say so by --group-by."
        )
        links = []
    thumbnails = np.array([image.thumbnail for image in images]).reshape(-1, _THUMBNAIL, _THUMBNAIL)
    similar = similar_pairs(thumbnails, largest)
    if _largest(count, [*links, *similar]) > largest:
        similar = []  # names are surer
    for title, found in (("have names of one burst", links), ("are alike in their details", similar)):
        if found:
            members = {index for link in found for index in link}
            remarks.append(f"{len(members)} images {title}, as images of one part are; these stay in one split.")
    return [str(number) for number in components(count, [*links, *similar])], remarks


def _largest(count: int, links: Sequence[tuple[int, int]]) -> int:
    """Return the number of images in the largest group."""
    return int(np.bincount(components(count, links)).max(initial=0))


def _burst_links(names: Sequence[str]) -> list[tuple[int, int]]:
    """Link images whose names differ in a last letter or number only, by the first rule that links any."""
    for rule in _BURSTS:
        links = _links_of_equal(names, lambda name, rule=rule: _burst(name, rule))  # type: ignore[misc]
        if links:
            return links
    return []


def _burst(name: str, rule: re.Pattern[str]) -> str | None:
    stem, _, _ = name.rpartition(".")
    match = rule.fullmatch(stem)
    return match[1] if match else None


def _links_of_equal(names: Sequence[str], key: Callable[[str], str | None]) -> list[tuple[int, int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        if (found := key(name)) is not None:
            members[found].append(index)
    return [(first, other) for first, *others in members.values() for other in others]
