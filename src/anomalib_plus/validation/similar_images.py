"""Images of the same part: alike in their details, apart from light, contrast and a small shift."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_DETAIL = 2.0
"""Sigma in thumbnail pixels; what is coarser is light and shape, which all parts share."""
_SHIFT = 2
"""Largest shift in thumbnail pixels, along each axis."""
_MOST_SHIFTED = 4000
"""Images up to which shifts are tried: the time grows with the square of their number."""
_LIMITS = (0.75, 0.8, 0.85, 0.9, 0.95)
_LEAST = 20
"""Fewer images do not tell what all parts have in common."""
_BLOCK = 512
_FLAT = 1e-3


def similar_pairs(thumbnails: NDArray[np.integer], largest: int) -> list[tuple[int, int]]:
    """Return pairs of images that seem to show the same part.

    Each thumbnail is high-pass filtered and normalised, and the mean of all is subtracted, because parts of one kind
    have it in common. Two images are a pair if the correlation of what remains, the largest over small shifts, exceeds
    a limit: the lowest of 0.75, 0.8, ..., 0.95 for which no more than ``largest`` images are connected by pairs.

    Args:
        thumbnails: (N, 32, 32).
        largest: Number of images that one part may have at most.

    Returns:
        Pairs of indices; none of fewer than 20 images, or if even the highest limit connects more than ``largest``.
    """
    count = len(thumbnails)
    if count < _LEAST:
        return []
    details = _details(thumbnails)
    first, second, values = _correlated(details, min(_LIMITS), _SHIFT if count <= _MOST_SHIFTED else 0)
    for limit in _LIMITS:
        chosen = values > limit
        pairs = list(zip(first[chosen].tolist(), second[chosen].tolist(), strict=True))
        if largest_group(count, pairs) <= largest:
            return pairs
    return []


def components(count: int, links: Sequence[tuple[int, int]]) -> NDArray[np.integer]:
    """Number the groups of ``count`` items that links connect; return the number of each item's group."""
    rows, columns = np.array(links, int).reshape(-1, 2).T
    return connected_components(coo_array((np.ones(len(rows)), (rows, columns)), (count, count)), directed=False)[1]


def largest_group(count: int, links: Sequence[tuple[int, int]]) -> int:
    """Return the number of items in the largest group of :func:`components`."""
    return int(np.bincount(components(count, links)).max(initial=0))


def _details(thumbnails: NDArray[np.integer]) -> NDArray[np.float32]:
    images = thumbnails.astype(np.float32)
    details = _normalized(images - gaussian_filter(images, (0, _DETAIL, _DETAIL)))
    return _normalized(details - details.mean(axis=0))


def _normalized(images: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.sqrt((images**2).sum(axis=(1, 2), keepdims=True))
    return np.where(norms > _FLAT, images / np.maximum(norms, _FLAT), 0)


def _correlated(details: NDArray[np.float32], limit: float, shift: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return the indices (P,) of the first and the second image of each pair above the limit, and its correlation."""
    flat = details.reshape(len(details), -1)
    shifts = range(-shift, shift + 1)
    found = [(np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))]
    for start in range(0, len(details), _BLOCK):
        block, others = details[start : start + _BLOCK], flat[start:]
        best = np.full((len(block), len(others)), -1, np.float32)
        for rows in shifts:
            for columns in shifts:
                moved = np.roll(block, (rows, columns), axis=(1, 2)).reshape(len(block), -1)
                np.maximum(best, moved @ others.T, out=best)
        first, second = np.nonzero(np.triu(best > limit, k=1))
        found.append((first + start, second + start, best[first, second]))
    first, second, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, values
