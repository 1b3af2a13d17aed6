"""Survey of a folder of images: files, sizes, colours, exact copies and near-copies."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from anomalib_plus.files import file_hash
from anomalib_plus.image_files import find_image_files, inspect_image, printable, too_small

_HASH_SIDE = 8
_THUMBNAIL = 32
_MAX_HASH_BITS = 4
"""Bits of 64 that may differ between the hashes of near-copies."""
_MAX_GREY_LEVELS = 1.0
"""Mean difference of the thumbnails of near-copies: two exposures of one scene, whose noise the thumbnail averages."""
_GREY_TOLERANCE = 8
"""Largest difference of the colour channels in a grey image; JPEG adds a few levels."""
_SMALL_GROUP, _GROUP_SHARE = 4, 0.2
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
    hash: np.uint64
    """Difference hash: for each of 8x8 fields a bit, set if brightness rises from it to the next in its row."""
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
    grey = image.convert("L")
    fields = np.asarray(grey.resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX), np.int16)
    return SurveyedImage(
        path=path,
        sha256=file_hash(path),
        size=facts.size,
        is_grey=bool((small.max(axis=2) - small.min(axis=2)).max() <= _GREY_TOLERANCE),
        is_turned=is_turned,
        hash=np.packbits(fields[:, 1:] > fields[:, :-1]).view(np.uint64)[0],
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
    """Group images by burst names and near-copies; a rule that makes one group of a large part of them is dropped."""
    links: list[tuple[int, int]] = []
    remarks = []
    for title, found in (
        ("names of one burst", _burst_links(names)),
        ("near-copies", _near_copies(images)),
    ):
        largest = np.bincount(_components(len(names), found)).max(initial=1)
        if largest > max(_SMALL_GROUP, _GROUP_SHARE * len(names)):
            remarks.append(
                f"By {title}, {largest} of {len(names)} images would be one part, so this rule is not used. If several "
                "images show one part, say so by --group-by."
            )
        elif found:
            links += found
            members = {index for link in found for index in link}
            remarks.append(f"{len(members)} images are {title}; those of one part stay in one split.")
    return [str(number) for number in _components(len(names), links)], remarks


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


def _near_copies(images: Sequence[SurveyedImage]) -> list[tuple[int, int]]:
    """Link images whose hashes and thumbnails hardly differ; those that are connected already are not compared."""
    hashes = np.array([image.hash for image in images])
    thumbnails = np.array([image.thumbnail for image in images])
    first = np.arange(len(images))  # of each image's group
    for index in range(len(images)):
        near = np.flatnonzero(np.bitwise_count(hashes[index + 1 :] ^ hashes[index]) <= _MAX_HASH_BITS) + index + 1
        near = near[first[near] != first[index]]
        differences = np.abs(thumbnails[near] - thumbnails[index]).mean(axis=(1, 2))
        joined = first[near[differences <= 3 * _MAX_GREY_LEVELS]]
        first[np.isin(first, joined)] = first[index]
    return [(group, index) for index, group in enumerate(first.tolist()) if group != index]


def _components(count: int, links: Sequence[tuple[int, int]]) -> NDArray[np.integer]:
    """Number the groups of ``count`` items that links connect; return the number of each item's group."""
    rows, columns = np.array(links, int).reshape(-1, 2).T
    return connected_components(coo_array((np.ones(len(rows)), (rows, columns)), (count, count)), directed=False)[1]
