"""Listing of images: files, folders, patterns and lists for a run over them, and the inbox of a station."""

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from anomalib_plus.image_files import IMAGE_SUFFIXES, find_image_files, is_image_name, printable
from anomalib_plus.inspector.table import as_cell

Key = tuple[str, str]
"""File name as in the table, and time of the last change in ISO 8601, UTC, to the microsecond.

The time distinguishes images of the same name.
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def find_images(arguments: Iterable[str], recursive: bool = False) -> Iterator[Path]:
    """List images one by one, those of a folder in alphabetical order.

    ``arguments`` are image files, folders, patterns such as ``parts/*.png``, and text files (``.txt``) with one image
    per line, relative to the working folder. Hidden files and folders, and links to folders, are left out.

    Raises:
        ValueError: If a folder or pattern has no image, or there is no such folder.
        OSError: If a folder or list cannot be read.
    """
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            yield from _not_none(find_image_files(path, recursive), argument)
        elif path.suffix.lower() == ".txt":
            lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
            yield from (Path(line) for line in lines if line.strip())
        elif glob.has_magic(argument) and not os.path.lexists(path):
            names = sorted(glob.glob(argument, recursive=recursive))  # noqa: PTH207 -- pathlib refuses absolute ones
            yield from _not_none((Path(name) for name in names if is_image_name(name)), argument)
        elif os.path.lexists(path) or is_image_name(path.name):
            yield path
        else:
            msg = f"There is no file or folder {printable(argument)}: correct the path."
            raise ValueError(msg)


def images_in(folder: Path) -> dict[Key, Path]:
    """List the image files of a folder by name and time, broken links included and hidden files left out.

    Raises:
        OSError: If the folder cannot be read.
    """
    found = {}
    for path in sorted(path for path in folder.iterdir() if is_image_name(path.name)):
        with suppress(FileNotFoundError):  # removed meanwhile
            changed = path.stat(follow_symlinks=path.exists()).st_mtime_ns
            found[as_cell(path.name), _format_time(changed)] = path
    return found


def _not_none(images: Iterator[Path], argument: str) -> Iterator[Path]:
    first = next(images, None)
    if first is None:
        endings = ", ".join(IMAGE_SUFFIXES)
        msg = f"There is no image ({endings}) in {printable(argument)}; --recursive searches subfolders."
        raise ValueError(msg)
    yield first
    yield from images


def _format_time(nanoseconds: int) -> str:
    """Format a time in ISO 8601, or in seconds since 1970 if ``datetime`` cannot represent it."""
    try:
        return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat(timespec="microseconds")
    except OverflowError:
        return f"unix {nanoseconds / 1e9}"
