"""Region of the object in an image, where there is one."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn import functional as F

_SIDE = 128
_FRAME = 0.03
"""Width of the image border that counts as background, as a share of the shorter side."""
_NEIGHBOUR = 0.03
"""Share of the border that must have a colour, so that it is one of the background."""
_LEAST_DISTANCE = 8.0
"""Least distance in CIELAB between the object and the background."""
_NOISE = 1.5
"""The same in units of the largest distance between colours of the background."""
_ROUNDING = 2.0
"""Step of the colours, in CIELAB: a picture has far fewer of them than pixels."""
_SHARE = (0.02, 0.85)
"""Smallest and largest share of the image that an object covers."""
_LARGEST_PIECE = 0.6
"""Least share of the object that is one connected piece; textures have many small ones."""


def object_region(image: Tensor) -> Tensor | None:
    """Find the object in an image: what differs in colour from everything along the image border.

    Args:
        image: (3, H, W), values in [0, 1].

    Returns:
        Mask (H, W), bool, without holes and speckles; None if the image shows no object before a background, as
        pictures of a surface do.
    """
    size = image.shape[1:]
    scale = min(1.0, _SIDE / max(size))
    small = F.interpolate(image[None].float(), [max(8, round(side * scale)) for side in size], mode="area")
    mask = _piece(_distances(rgb2lab(small[0].permute(1, 2, 0).numpy())))
    if mask is None:
        return None
    smooth = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="bilinear", align_corners=False)
    return smooth[0, 0] > 0.5


def _distances(colours: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return how far each pixel (H, W, 3) is from the colours of the border, 0 where nothing can be an object."""
    height, width, _ = colours.shape
    thickness = max(1, round(_FRAME * min(height, width)))
    is_frame = np.ones((height, width), bool)
    is_frame[thickness:-thickness, thickness:-thickness] = False
    frame = colours[is_frame]
    neighbour = max(2, round(_NEIGHBOUR * len(frame)))
    rounded = (colours / _ROUNDING).round().astype(np.int64) + 128
    codes, places = np.unique(rounded @ np.array([1 << 16, 1 << 8, 1], np.int64), return_inverse=True)
    different = (np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1) - 128) * _ROUNDING
    distances = KDTree(frame).query(different, [neighbour])[0][places].reshape(height, width)
    level = max(threshold_otsu(distances), _NOISE * np.percentile(distances[is_frame], 95), _LEAST_DISTANCE)
    return distances * (distances > level)


def _piece(distances: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Keep the largest piece, without holes, and those at least a tenth as large; None if they are no object."""
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(distances > 0))
    labels, count = ndimage.label(mask)
    if not count:
        return None
    areas = np.bincount(labels.ravel())[1:]
    kept = np.isin(labels, 1 + np.flatnonzero(areas >= areas.max() / 10))
    return kept if _SHARE[0] <= kept.mean() <= _SHARE[1] and areas.max() >= _LARGEST_PIECE * mask.sum() else None
