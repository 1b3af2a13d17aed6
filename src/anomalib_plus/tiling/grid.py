"""Locations of the tiles of an image, and the weights that blend their maps."""

import math

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6
"""Error of a product such as ``10 * (1 - 0.8)``, which must not lose a pixel."""


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """List the first pixel of each tile along a side of ``length`` pixels.

    Neighbours share at least ``overlap`` of their pixels. The last tile moves inward, so that all end inside the image.
    """
    if length < tile:
        msg = f"A side of {length} pixels is shorter than a tile of {tile}."
        raise ValueError(msg)
    stride = max(1, math.floor(tile * (1 - overlap) + _ROUNDING))
    count = math.ceil((length - tile) / stride) + 1
    return [min(number * stride, length - tile) for number in range(count)]


def blend_weights(length: int, starts: list[int], tile: int) -> NDArray[np.float64]:
    """Compute the weights (tiles, tile) of each tile's pixels along a side; those of one image pixel add up to 1.

    They are a squared sine, largest in the middle of a tile, where a network sees most of the surroundings of a pixel,
    divided by its sum over all tiles.
    """
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += window
    return np.stack([window / total[start : start + tile] for start in starts])
