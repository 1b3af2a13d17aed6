"""Blending of a filling with its surroundings: hard, feathered, or with the seam removed (Perez et al. 2003)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Blend = Literal["none", "feather", "poisson"]

_FEATHER = 7
_THIN = 0.3  # cover of the rim and of parts that are nothing but rim
_SWEEPS = 12


def blend(images: Tensor, filling: Tensor, masks: Tensor, kind: Blend, opacity: Tensor) -> tuple[Tensor, Tensor]:
    """Blend a filling over images inside masks.

    Args:
        images: (B, C, H, W) float32.
        filling: Like the images.
        masks: (B, 1, H, W), bool.
        kind: "none", a hard edge; "feather", an edge that fades inwards over a few pixels; "poisson", the filling's
            details on the brightness and colour of the surroundings.
        opacity: (B, 1, 1, 1).

    Returns:
        Blended images, and the cover (B, 1, H, W) in [0, 1], 0 outside the masks.
    """
    inside = masks.float()
    if kind == "poisson":
        filling = filling + _membrane(images - filling, inside)
    if kind == "feather":
        inside = _feather(inside)
    return torch.lerp(images, filling, inside * opacity), inside


def _feather(inside: Tensor) -> Tensor:
    """Let masks (B, 1, H, W) fade towards their rim; they keep 1 where they are thickest."""
    near = inside
    for axis_kernel in ((_FEATHER, 1), (1, _FEATHER)):
        padding = tuple(side // 2 for side in axis_kernel)
        near = F.avg_pool2d(near, axis_kernel, 1, padding, count_include_pad=False)
    peak = near.flatten(1).amax(1)[:, None, None, None].clamp_min(1e-6)
    return (near / peak * 2 - 1).clamp_(_THIN, 1) * inside


def _membrane(difference: Tensor, inside: Tensor) -> Tensor:
    """Extend values outside the masks smoothly into them: about the solution of Laplace's equation inside.

    From coarse to fine, each level starts from the coarser one and is relaxed a few times.
    """
    levels = [(difference * (1 - inside), 1 - inside)]
    while min(levels[-1][0].shape[2:]) > 4:
        values, weights = (F.avg_pool2d(part, 2, 2, ceil_mode=True) for part in levels[-1])
        levels.append((values, weights))
    values, weights = levels.pop()
    known = weights.sum((2, 3), keepdim=True).clamp_min(1e-6)
    solution = (values.sum((2, 3), keepdim=True) / known).expand_as(values)
    while levels:
        values, weights = levels.pop()
        solution = F.interpolate(solution, values.shape[2:], mode="bilinear", align_corners=False)
        fixed, free = values / weights.clamp_min(1e-6), weights == 0
        for _ in range(_SWEEPS):
            solution = torch.where(free, _neighbours(solution), fixed)
    return solution


def _neighbours(values: Tensor) -> Tensor:
    padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return (across + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]) / 4
