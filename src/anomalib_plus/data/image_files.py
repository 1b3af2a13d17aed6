"""What is wrong with an image file, found from its first and last bytes."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

# Pillow's pixel formats that survive anomalib's `.convert("RGB")`. The others (I, I;16, F, ...) hold more than 8 bits.
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
LAST_BYTES = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}


class ImageFacts(NamedTuple):
    """Width and height of a file if it could be opened, and what is wrong with it."""

    size: tuple[int, int] | None
    fault: str | None


def inspect_image(path: Path) -> ImageFacts:
    """Read the header, and the pixels only if the end of the file is not where it should be.

    Anomalib reads every file as 8-bit RGB: grey, palette and CMYK images are converted and an alpha channel is dropped,
    which is fine. Images of 16 bits or of real numbers would be clipped to white without a word: that is a fault.
    """
    if not path.is_file():
        return ImageFacts(None, "does not exist")
    try:
        with path.open("rb") as stream, Image.open(stream) as image:
            if image.mode not in EIGHT_BIT_MODES:
                return ImageFacts(image.size, _deep_pixels(image.mode))
            if not _ends_as_it_should(path, image.format):
                image.load()
            return ImageFacts(image.size, None)
    except UnidentifiedImageError:
        return ImageFacts(None, "is empty (0 bytes)" if path.stat().st_size == 0 else "is not an image")
    except Image.DecompressionBombError:
        return ImageFacts(None, f"has more than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels that Pillow opens")
    except Exception:  # every format fails in its own way, and every failure is an answer
        return ImageFacts(None, "is damaged or cut off")


def _deep_pixels(mode: str) -> str:
    advice = (
        "value in 0..1 times 255" if mode == "F" else "value / 257, or value / 16 if the camera delivers 12 of 16 bits"
    )
    return f"has pixels of more than 8 bits (mode {mode}), which would be clipped: save it with 8 bits ({advice})"


def _ends_as_it_should(path: Path, image_format: str | None) -> bool:
    last_bytes = LAST_BYTES.get(image_format or "")
    if last_bytes is None:
        return False
    with path.open("rb") as stream:
        stream.seek(-len(last_bytes), 2)
        return stream.read() == last_bytes
