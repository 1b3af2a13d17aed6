"""Defective regions of an anomaly map, and images with the map laid over them."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from anomalib_plus.overlays import lay_over

_LONGEST_NAME = 250
"""Bytes of a file name to which ``.png`` can be added."""


class Region(NamedTuple):
    """Connected pixels above the threshold: their bounding box, and their number."""

    x: int
    y: int
    width: int
    height: int
    area: int


def largest_region(anomaly_map: NDArray[np.float32], threshold: float) -> Region | None:
    """Find the largest region of a map (H, W) above the threshold; pixels that touch at a corner are connected."""
    from scipy import ndimage  # takes longer to import than all else, and not every program needs it

    labels, count = ndimage.label(anomaly_map > threshold, structure=np.ones((3, 3)))
    if count == 0:
        return None
    areas = np.bincount(labels.ravel())[1:]
    rows, columns = ndimage.find_objects(labels)[areas.argmax()]
    width, height = columns.stop - columns.start, rows.stop - rows.start
    return Region(columns.start, rows.start, width, height, int(areas.max()))


def marked_region(anomaly_map: NDArray[np.float32], threshold: float, is_rejected: bool) -> Region | None:
    """Find the region to frame: the largest one above the threshold.

    An image can be rejected by its score while its map (H, W) stays below the threshold. Then it is the largest one
    above the middle between the map's lowest and highest value; none if the map is flat or has NaN.
    """
    region = largest_region(anomaly_map, threshold)
    if region is None and is_rejected:
        return largest_region(anomaly_map, float(anomaly_map.min() + anomaly_map.max()) / 2)
    return region


def draw_overlay(
    pixels: NDArray[np.uint8], anomaly_map: NDArray[np.float32], threshold: float, region: Region | None
) -> Image.Image:
    """Lay a map (H, W) over an image (H, W, 3), and frame its largest region.

    Colours go from blue (0.5 below the threshold or less) over green (the threshold) to red (0.5 above it or more).
    """
    levels = np.nan_to_num((anomaly_map - threshold + 0.5).clip(0, 1) * 255, nan=255).astype(np.uint8)
    overlay = lay_over(Image.fromarray(pixels), Image.fromarray(levels))
    if region is not None:
        x, y, width, height, _ = region
        line = max(1, min(overlay.size) // 200)
        box = (x - line, y - line, x + width - 1 + line, y + height - 1 + line)
        ImageDraw.Draw(overlay).rectangle(box, outline=(255, 255, 255), width=line)
    return overlay


def overlay_file(folder: Path, image: Path) -> Path:
    """Return the PNG file of an image's overlay: the path of the image below ``folder``."""
    parts = ["parent" if part == ".." else part for part in image.parent.parts if part != image.anchor]
    name, encoded = image.name, os.fsencode(image.name)
    if len(encoded) > _LONGEST_NAME:
        name = f"{os.fsdecode(encoded[: _LONGEST_NAME - 13])}-{_digest(image)}"
    return folder.joinpath(*parts, f"{name}.png")


def save_overlay(overlay: Image.Image, folder: Path, image: Path) -> None:
    """Save an overlay as PNG at :func:`overlay_file`, completely or not at all."""
    target = overlay_file(folder, image)
    target.parent.mkdir(parents=True, exist_ok=True)
    # After a kill, the next run writes the same file again, so that none is left over.
    partial = target.parent / f".{_digest(image)}.partial"
    overlay.save(partial, format="PNG", compress_level=1)
    partial.replace(target)


def _digest(image: Path) -> str:
    return hashlib.sha256(os.fsencode(image.name)).hexdigest()[:12]
