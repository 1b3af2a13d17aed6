"""What is wrong with an image file, and what to do about it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

# Pillow's pixel formats that survive anomalib's `.convert("RGB")`. The others (I, I;16, F, ...) hold more than 8 bits.
EIGHT_BIT_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
)
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What may be decoded, whatever a file's name says.

Pillow goes by the content and knows dozens more: rarely tried decoders, and one that starts another program (EPS).
"""

_END_OF_JPEG = b"\xff\xd9"


class ImageFacts(NamedTuple):
    """What is known of an image file.

    Attributes:
        size: Width and height, if it could be opened.
        fault: What is wrong with it.
        format: Pillow's name of its format.
        greys: Grey values that occur in it, of a mask.
    """

    size: tuple[int, int] | None
    fault: str | None
    format: str | None = None
    greys: tuple[int, ...] = ()


def inspect_image(path: Path, decode: bool = False) -> ImageFacts:
    """Find out whether anomalib can read a file, and whether it would read it rightly.

    Anomalib reads every file as 8-bit RGB: grey, palette and CMYK images are converted, an alpha channel is dropped, of
    several frames the first is taken, which is fine. Images of 16 bits or of real numbers would be clipped to white
    without a word: that is a fault. So is a size that Pillow warns of, because a few bytes can declare it, and content
    that is not BMP, GIF, JPEG, PNG, PPM, TIFF or WebP, whatever the name says: no other decoder is run.

    Args:
        path: The file. Only regular files are opened: reading a pipe could last for ever.
        decode: Decode all pixels. Otherwise they are decoded only if the checksums of a PNG or the end of a JPEG are
            not as they should be, and always for other formats; damage inside a JPEG is not found then.
    """
    return _inspect(path, decode)


def inspect_mask(path: Path) -> ImageFacts:
    """Decode a mask once, the way anomalib does, and find out whether it can be read and which grey values it has."""
    return _inspect(path, decode=True, as_mask=True)


def _inspect(path: Path, decode: bool, as_mask: bool = False) -> ImageFacts:
    try:
        fault = _is_no_file(path)
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
    except FileNotFoundError:  # taken away meanwhile
        return ImageFacts(None, "does not exist")
    except PermissionError:
        return ImageFacts(None, "may not be read: change its permissions")
    except UnidentifiedImageError:
        return ImageFacts(None, _is_no_image(path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ImageFacts(None, _too_large())
    except Exception:  # every format fails in its own way, and every failure is an answer
        return ImageFacts(None, "is damaged or cut off")
    return facts


def printable(path: Path | str) -> str:
    """The path as one line of text: line breaks, control characters and bytes that are no text are escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(path))


def _is_no_file(path: Path) -> str | None:
    if path.is_file():
        return None
    if path.is_dir():
        return "is a folder with the name of an image"
    if path.exists():
        return "is no regular file but a pipe, socket or device"
    return "is a link that leads nowhere" if path.is_symlink() else "does not exist"


def _is_no_image(path: Path) -> str:
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
        except Exception:  # whether the damage matters shows when the pixels are decoded
            return False
        return True
    if image.format == "JPEG":
        with path.open("rb") as stream:
            stream.seek(-len(_END_OF_JPEG), 2)
            return stream.read() == _END_OF_JPEG
    return False
