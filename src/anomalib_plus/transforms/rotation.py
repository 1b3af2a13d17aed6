"""Rotation of every image of a batch by its own angle."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def rotate(images: Tensor, degrees: Tensor, interpolation: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Rotate counter-clockwise about the image centre; what comes from outside the image is 0.

    The convention is that of ``torchvision.transforms.v2.functional.rotate``, which takes one angle per call.

    Args:
        images: (B, C, H, W), float32.
        degrees: (B,) angles, on any device.
        interpolation: How pixels are read between the grid points.
    """
    count, _, height, width = images.shape
    device = images.device
    radians = torch.deg2rad(degrees.float()).to(device, non_blocking=True)[:, None, None]
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = (torch.arange(height, device=device) - (height - 1) / 2)[:, None]
    cos, sin = radians.cos(), radians.sin()
    grid = images.new_empty(2, count, height, width)  # one plane each, as vectorised code on a CPU wants it
    torch.add(x * (cos * (2 / width)), y * (-sin * (2 / width)), out=grid[0])
    torch.add(x * (sin * (2 / height)), y * (cos * (2 / height)), out=grid[1])
    grid = grid.permute(1, 2, 3, 0)
    return F.grid_sample(images, grid, mode=interpolation, padding_mode="zeros", align_corners=False)
