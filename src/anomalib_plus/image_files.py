"""Image files: a list of those below a folder, whether anomalib can read them, and what to do if not."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from anomalib_plus.counts import counted

# Pillow's modes that anomalib's `.convert("RGB")` converts correctly. Others (I, I;16, F, ...) hold more than 8 bits.
EIGHT_BIT_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
)
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that may be decoded, whatever the file's extension.

Pillow detects the format by content and supports dozens more: little-used decoders, and EPS, which starts a program.
"""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of the names of image files, in lower case, as anomalib and torchvision have them."""

_UNREAD = (
    ".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2",
)  # fmt: skip

PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, *_UNREAD)
"""Endings of photographs: ``IMAGE_SUFFIXES``, and others, as of telephones and cameras, that anomalib does not read."""

MIN_SIDE = 16
"""Fewest pixels of a side: a network enlarges a smaller image to nothing but smooth gradients."""

_END_OF_JPEG = b"\xff\xd9"


class ImageFacts(NamedTuple):
    """Result of an inspection."""

    size: tuple[int, int] | None
    """Width and height; None if it could not be opened."""
    fault: str | None
    """Reason why it cannot be used, as the predicate of a sentence."""
    format: str | None = None
    """Pillow's name of the format."""
    greys: tuple[int, ...] = ()
    """Grey values that occur in a mask."""


def is_image_name(name: str) -> bool:
    """Return True if a file name has the ending of a photograph, read or not, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122 -- for each of 100,000 names


def _raise(error: OSError) -> None:
    raise error


def find_image_files(
    folder: Path, recursive: bool = True, on_error: Callable[[OSError], object] = _raise
) -> Iterator[Path]:
    """List the files of a folder that are named like images, broken links included.

    Hidden files and folders are left out: previews, rubbish bins, what macOS writes beside each file (``._0001.jpg``).
    The order is alphabetical, the files of a folder before those of its subfolders. Links to folders are not followed.
    Photographs in formats that are not read are listed too, so that :func:`inspect_image` can report them.
    ``on_error`` is called for each folder that cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if is_image_name(name))
        if not recursive:
            return


def find_readable_files(folder: Path, what: str) -> list[Path]:
    """List the image files of a folder and its subfolders, in order; regular files only, since a pipe could block.

    Warns of photographs in formats that are not read, with their number and what to do; ``what`` begins the message.
    """
    paths = sorted(path for path in find_image_files(folder) if path.is_file())
    unread = [path for path in paths if _fault_of_format(path)]
    if unread:
        kinds = ", ".join(sorted({path.suffix.lower() for path in unread}))
        warnings.warn(
            f"{what} {printable(folder)}: {counted(len(unread), 'file has', 'files have')} a format that is not read "
            f"({kinds}), such as {printable(unread[0].name)}: convert to PNG or JPEG.",
            stacklevel=3,
        )
    return [path for path in paths if not _fault_of_format(path)]


def inspect_image(path: Path, decode: bool = False) -> ImageFacts:
    """Check that anomalib can read a file, and reads it correctly.

    Anomalib reads every file as 8-bit RGB: it converts grey, palette and CMYK images, drops an alpha channel and takes
    the first of several frames, none of which is a fault. Faults are 16-bit and floating-point images, which it would
    silently clip to white, sizes that Pillow warns of (a few bytes can declare them), and formats other than
    ``IMAGE_FORMATS``.

    Args:
        path: The file. Only regular files are opened: reading a pipe could block forever.
        decode: Decode all pixels. If False, PNGs with valid checksums and JPEGs with an end marker are not decoded, so
            damage inside a JPEG is not found.
    """
    return _inspect(path, decode)


def inspect_mask(path: Path) -> ImageFacts:
    """Decode a mask as anomalib does; check that it can be read, and list its grey values."""
    return _inspect(path, decode=True, as_mask=True)


def _inspect(path: Path, decode: bool, as_mask: bool = False) -> ImageFacts:
    try:
        fault = _fault_of_path(path) or (None if as_mask else _fault_of_format(path))
        if fault:
            return ImageFacts(None, fault)
        with path.open("rb") as stream, Image.open(stream, formats=IMAGE_FORMATS) as image:
            facts = ImageFacts(image.size, _fault_of_pixels(image), image.format)
            whole = facts.fault is not None or (not decode and _seems_whole(image, path))
        if not whole:
            with path.open("rb") as stream, Image.open(stream, formats=IMAGE_FORMATS) as image:
                converted = image.convert("L" if as_mask else "RGB")
            if as_mask:
                facts = facts._replace(greys=tuple(np.flatnonzero(converted.histogram()).tolist()))
    except FileNotFoundError:  # removed meanwhile
        return ImageFacts(None, "does not exist")
    except PermissionError:
        return ImageFacts(None, "may not be read: change its permissions")
    except UnidentifiedImageError:
        return ImageFacts(None, _fault_of_content(path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ImageFacts(None, _too_large())
    except Exception:  # every format fails in its own way, and every failure is an answer
        return ImageFacts(None, "is damaged or cut off")
    return facts


def printable(path: Path | str) -> str:
    """Format a path as one line: escape line breaks, control characters and undecodable bytes."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(path))


def too_small(height: int, width: int) -> str | None:
    """Return the reason, as the predicate of a sentence, if an image of this size cannot be inspected."""
    if min(height, width) >= MIN_SIDE:
        return None
    return f"has {height}x{width} pixels (height x width), too few to inspect: {MIN_SIDE}x{MIN_SIDE} is the least"


def _fault_of_path(path: Path) -> str | None:
    if path.is_file():
        return None
    if path.is_dir():
        return "is a folder with the name of an image"
    if path.exists():
        return "is not a regular file but a pipe, socket or device"
    return "is a broken link" if path.is_symlink() else "does not exist"


def _fault_of_format(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return f"has a format that is not read ({suffix}): convert it to PNG or JPEG" if suffix in _UNREAD else None


def _fault_of_content(path: Path) -> str:
    try:
        empty = path.stat().st_size == 0
    except FileNotFoundError:
        return "does not exist"
    return "is empty (0 bytes)" if empty else f"is not an image ({', '.join(IMAGE_FORMATS)})"


def _fault_of_pixels(image: Image.Image) -> str | None:
    if image.mode not in EIGHT_BIT_MODES:
        scaling = "value / 257, or value / 16 if the camera delivers 12 of 16 bits"
        advice = "value in 0..1 times 255" if image.mode == "F" else scaling
        fault = f"has pixels of more than 8 bits (mode {image.mode}), which would be clipped"
        return f"{fault}: save it with 8 bits ({advice})"
    limit = Image.MAX_IMAGE_PIXELS
    return _too_large() if limit is not None and image.width * image.height > limit else None


def _too_large() -> str:
    return (
        f"has more than {Image.MAX_IMAGE_PIXELS} pixels, as an attack on the memory would: make it smaller, or raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )


def _seems_whole(image: Image.Image, path: Path) -> bool:
    if image.format == "PNG":
        try:
            image.verify()
        except Exception:  # decoding the pixels will show whether the damage matters
            return False
        return True
    if image.format == "JPEG":
        with path.open("rb") as stream:
            stream.seek(-len(_END_OF_JPEG), 2)
            return stream.read() == _END_OF_JPEG
    return False
