"""Rotation of images of a batch, each by its own angle."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Interpolation = Literal["bilinear", "nearest"]

_CACHED = 2**18
"""Values of the images that a CPU rotates at once; with the grid and the result they take about 4 MiB."""


def rotate_where(
    rotated: Tensor, images: Tensor, degrees: Tensor, interpolation: Interpolation = "bilinear", highest: float = 1
) -> Tensor:
    """Rotate some images counter-clockwise about their centre, in place; what comes from outside an image is 0.

    The convention is that of ``torchvision.transforms.v2.functional.rotate``, which takes one angle per call.

    Args:
        rotated: (B,), bool, which images; on the host.
        images: (B, C, H, W), floating point, or uint8 if "nearest"; overwritten.
        degrees: (B,) angles; on the host.
        interpolation: Interpolation between the grid points.
        highest: Largest value of the images, which rounding must not exceed.

    Returns:
        The images.
    """
    if not rotated.any():
        return images
    device = images.device
    rows = rotated.nonzero().flatten()
    across, down = _source_terms(degrees[rows], (images.shape[2], images.shape[3]), device)
    at_once = len(images)
    if device.type == "cpu":  # few at a time, one for each thread or several small ones, which stay in its cache
        at_once = torch.get_num_threads() * max(1, _CACHED // images[0].numel())
    parts = zip(rows.split(at_once), across.split(at_once, 1), down.split(at_once, 1), strict=True)
    for own_rows, own_across, own_down in parts:
        own = images.index_select(0, own_rows.to(device, non_blocking=True)).float()
        grid = (own_across + own_down).permute(1, 2, 3, 0)  # a plane per coordinate, for vectorised code
        turned = F.grid_sample(own, grid, mode=interpolation, padding_mode="zeros", align_corners=False)
        for row, new in zip(own_rows.tolist(), turned.clamp_max_(highest), strict=True):
            images[row] = new  # slice by slice, because ``index_copy_`` copies no blocks
    return images


def _source_terms(degrees: Tensor, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what column and row contribute to the two coordinates a pixel comes from, (2, B, 1, W), (2, B, H, 1)."""
    height, width = size
    radians = torch.deg2rad(degrees.float())
    cos, sin = radians.cos(), radians.sin()
    matrix = torch.stack([cos * (2 / width), sin * (2 / height), -sin * (2 / width), cos * (2 / height)])
    of_x, of_y = matrix.to(device, non_blocking=True).view(2, 2, -1, 1, 1)
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = torch.arange(height, device=device) - (height - 1) / 2
    return of_x * x, of_y * y[:, None]
