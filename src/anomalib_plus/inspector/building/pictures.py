"""Small images of the report, with anomaly maps laid over them, as data URIs."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_plus.overlays import lay_over
from anomalib_plus.report.gallery import data_uri

_MOST_REFERENCES = 200


class MapScale:
    """Colours of all maps of a report: one scale, so that images can be compared.

    Args:
        folder: Folder of the maps (``.npy``).
        reference: Names of maps of good images, of which at most 200 are read: their 99th percentile is where colours
            begin.
    """

    def __init__(self, folder: Path, reference: list[str]) -> None:
        self.folder = folder
        step = -(-len(reference) // _MOST_REFERENCES)
        good = np.concatenate([self.read(name).ravel() for name in reference[::step]])
        self.low = float(np.percentile(good, 99))
        tops = [float(np.load(file).max()) for file in sorted(folder.glob("*.npy"))]
        self.high = max(*tops, self.low + 1e-6)

    def read(self, name: str) -> NDArray[np.float32]:
        """Return a map (h, w)."""
        return np.load(self.folder / f"{name}.npy").astype(np.float32)

    def levels(self, name: str, size: tuple[int, int]) -> Image.Image:
        """Return a map in [0, 255] at a width and height."""
        scaled = ((self.read(name) - self.low) / (self.high - self.low)).clip(0, 1)
        return Image.fromarray((255 * scaled).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def overlay(image: Path, scale: MapScale, name: str, side: int, mask: Path | None = None) -> tuple[str, str]:
    """Return an image and the same with its map over it, as data URIs of at most ``side`` pixels; outline the mask."""
    with Image.open(image) as opened:
        shown = opened.convert("RGB")
    shown.thumbnail((side, side))
    laid = lay_over(shown, scale.levels(name, shown.size))
    if mask is not None:
        laid = _outlined(laid, mask)
    return data_uri(shown), data_uri(laid)


def _outlined(image: Image.Image, mask: Path) -> Image.Image:
    from scipy import ndimage

    with Image.open(mask) as opened:
        inside = np.asarray(opened.convert("L").resize(image.size, Image.Resampling.BOX)) > 0
    edge = ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_dilation(inside)
    pixels = np.asarray(image).copy()
    pixels[edge] = 255
    return Image.fromarray(pixels)
