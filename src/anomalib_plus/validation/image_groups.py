"""Groups of images that show the same part: one group must not be in training and in validation."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_plus.counts import counted
from anomalib_plus.validation.similar_images import components, largest_group, similar_pairs

_SIDE = 32
_SMALL_GROUP, _GROUP_SHARE = 4, 0.15
"""Images that one part may always have, and their largest share of all."""
_MOST_COMPARED = 2000
_BURSTS = (re.compile(r"(.*\d)[-_. ]?[A-Za-z]$"), re.compile(r"(.*\d)[-_. ]\d{1,2}$"))
"""Names of one burst: ``part_017_a`` and ``part_017_b``, or ``part_017_1`` and ``part_017_2``."""


def thumbnail_of(image: Image.Image) -> NDArray[np.int16]:
    """Return the means of an RGB image over 32x32 fields, (32, 32, 3)."""
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.int16)


def group_images(
    names: Sequence[str], thumbnails: Sequence[NDArray[np.integer]], group_by: str | None = None
) -> tuple[list[str], list[str]]:
    """Group images by the part that they show.

    Args:
        names: Names of the files.
        thumbnails: For each image brightness (32, 32).
        group_by: Regular expression, searched in each name: images with the same first group, or without one the same
            match, show the same part. None groups by names of one burst and by similar details.

    Returns:
        For each image the name of its group, and sentences on the groups.

    Raises:
        ValueError: If ``group_by`` is no regular expression or matches no image.
    """
    return _by_expression(names, group_by) if group_by else _by_appearance(names, thumbnails)


def compiled(group_by: str) -> re.Pattern[str]:
    """Compile an expression; raise ``ValueError`` if it is no regular expression."""
    try:
        return re.compile(group_by)
    except re.error as error:
        msg = f"group_by {group_by!r} is not a regular expression: {error}."
        raise ValueError(msg) from error


def named_part(pattern: re.Pattern[str], name: str) -> str | None:
    """Return what a name says of the part: the first group or the whole match; None if that is missing or empty."""
    match = pattern.search(name)
    return None if match is None else (match[1] if pattern.groups else None) or match[0] or None


def group_files(paths: Sequence[str], group_by: str | None = None) -> dict[str, str]:
    """Return the group of each image file; see :func:`group_images`. Files that cannot be read stand alone."""
    thumbnails = [] if group_by else [_thumbnail_of_file(path) for path in paths]
    groups, _ = group_images(paths, thumbnails, group_by)
    return dict(zip(paths, groups, strict=True))


def images_of_trained_parts(
    training: Sequence[str], validation: Sequence[str], group_by: str | None = None
) -> list[str]:
    """Return the validation images that seem to show a part of the training images; see :func:`group_images`.

    Without ``group_by``, of more than 2,000 images, training images are left out evenly, so that it takes seconds.
    """
    step = 1 if group_by else max(1, -(-len(training) // max(_MOST_COMPARED - len(validation), 1)))
    groups = group_files(sorted({*training[::step], *validation}), group_by)
    trained = {groups[path] for path in training[::step]}
    return [path for path in validation if groups[path] in trained]


def _thumbnail_of_file(path: str) -> NDArray[np.int16]:
    try:
        with Image.open(path) as image:
            return thumbnail_of(image.convert("RGB")).sum(axis=2, dtype=np.int16)
    except (OSError, ValueError):  # the file check names it before the training
        return np.zeros((_SIDE, _SIDE), np.int16)


def _by_expression(names: Sequence[str], expression: str) -> tuple[list[str], list[str]]:
    pattern = compiled(expression)
    parts = [named_part(pattern, name) for name in names]
    alone = sum(part is None for part in parts)
    if names and alone == len(names):
        msg = f"group_by {expression!r} matches no image, for example not {names[0]!r}: change it, or leave it out."
        raise ValueError(msg)
    keys = [name if part is None else part for name, part in zip(names, parts, strict=True)]
    remark = f"group_by {expression!r} makes {counted(len(set(keys)), 'group')} of {counted(len(names), 'image')}"
    return keys, [f"{remark}; {counted(alone, 'matches', 'match')} nothing and stand alone." if alone else f"{remark}."]


def _by_appearance(names: Sequence[str], thumbnails: Sequence[NDArray[np.integer]]) -> tuple[list[str], list[str]]:
    """Group images by burst names and by their details."""
    count, remarks = len(names), []
    largest = max(_SMALL_GROUP, int(_GROUP_SHARE * count))
    links = _burst_links(names)
    lumped = largest_group(count, links)
    if lumped > largest:
        remarks.append(
            f"By names of one burst, {lumped} of {count} images would be one part, so this rule is not "
            "used; group_by says which show one part."
        )
        links = []
    similar = similar_pairs(np.array(thumbnails).reshape(-1, _SIDE, _SIDE), largest)
    if largest_group(count, [*links, *similar]) > largest:
        similar = []  # names are surer
    for title, found in (("have names of one burst", links), ("are alike in their details", similar)):
        if found:
            members = {index for link in found for index in link}
            remarks.append(f"{len(members)} images {title}, as images of one part are: they stay in one split.")
    if links or similar:
        remarks.append(
            "If each image shows another part, say so by the expression '.*' (--group-by, group_by): more parts set "
            "the threshold."
        )
    return [str(number) for number in components(count, [*links, *similar])], remarks


def _burst_links(names: Sequence[str]) -> list[tuple[int, int]]:
    """Link images whose names differ in a last letter or number only, by the first rule that links any."""
    for rule in _BURSTS:
        members: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(names):
            if match := rule.fullmatch(name.rpartition(".")[0]):
                members[match[1]].append(index)
        links = [(first, other) for first, *others in members.values() for other in others]
        if links:
            return links
    return []
