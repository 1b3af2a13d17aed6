"""Rotation of every image of a batch by its own angle."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Interpolation = Literal["bilinear", "nearest"]


def rotation_grid(degrees: Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return the sources of the pixels of images rotated by B ``degrees``, (B, H, W, 2), for one ``size`` (H, W)."""
    height, width = size
    radians = torch.deg2rad(degrees.float()).to(device, non_blocking=True)[:, None, None]
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = (torch.arange(height, device=device) - (height - 1) / 2)[:, None]
    cos, sin = radians.cos(), radians.sin()
    grid = x.new_empty(2, len(degrees), height, width)  # one plane each, as vectorised code on a CPU wants it
    torch.add(x * (cos * (2 / width)), y * (-sin * (2 / width)), out=grid[0])
    torch.add(x * (sin * (2 / height)), y * (cos * (2 / height)), out=grid[1])
    return grid.permute(1, 2, 3, 0)


def sample_rotated(images: Tensor, grid: Tensor, interpolation: Interpolation = "bilinear") -> Tensor:
    """Rotate images (B, C, H, W), float32, by a :func:`rotation_grid`, which several of one size may share."""
    return F.grid_sample(images, grid, mode=interpolation, padding_mode="zeros", align_corners=False)


def rotate(images: Tensor, degrees: Tensor, interpolation: Interpolation = "bilinear") -> Tensor:
    """Rotate counter-clockwise about the image centre; what comes from outside the image is 0.

    The convention is that of ``torchvision.transforms.v2.functional.rotate``, which takes one angle per call.

    Args:
        images: (B, C, H, W), float32.
        degrees: (B,) angles, on any device.
        interpolation: How pixels are read between the grid points.
    """
    height, width = images.shape[2:]
    return sample_rotated(images, rotation_grid(degrees, (height, width), images.device), interpolation)
