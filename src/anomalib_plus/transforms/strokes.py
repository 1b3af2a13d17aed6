"""Lines and specks for a whole batch: random walks as points, and discs stamped at points."""

import math

import torch
from torch import Tensor

SPACING = 0.7
"""Distance between the points of a line in pixels, so that thin lines have no gaps."""


def walk(headings: Tensor, step: Tensor | float) -> Tensor:
    """Follow headings (..., P) in radians with steps in pixels; (..., P, 2) as row and column, the first point at 0."""
    moves = torch.stack([headings.sin(), headings.cos()], dim=-1) * step
    return moves.cumsum(-2) - moves


def smooth_curve(knots: Tensor, count: int) -> Tensor:
    """Interpolate values (B, K) at knots smoothly to ``count`` values (B, count) between the first and the last."""
    position = torch.linspace(0, knots.shape[1] - 1, count)
    left = position.long().clamp_max(knots.shape[1] - 2)
    share = position - left
    share = share * share * (3 - 2 * share)
    return torch.lerp(knots[:, left], knots[:, left + 1], share)


def extent(points: Tensor, radius: Tensor) -> float:
    """Distance along an axis that discs of ``radius`` (B, P) at ``points`` (B, P, 2) reach from 0; both on the host."""
    return float(points.abs().max() + radius.max()) + 1


def stamp(points: Tensor, radius: Tensor, strength: Tensor, size: tuple[int, int]) -> Tensor:
    """Stamp a disc with an anti-aliased edge at every point; where discs overlap, the strongest counts.

    Args:
        points: (B, P, 2) float32, row and column; points outside are cut off.
        radius: (B, P), in pixels; a disc of less than half a pixel is a faint pixel. On the host.
        strength: (B, P) in [0, 1], on the device of the points.
        size: Height and width.

    Returns:
        (B, 1, height, width) float32.
    """
    height, width = size
    device = points.device
    reach = math.ceil(float(radius.max()) + 0.5)
    offsets = torch.arange(-reach, reach + 1, device=device)
    rows = points[..., 0].round()[..., None].add(offsets)  # (B, P, K)
    columns = points[..., 1].round()[..., None].add(offsets)
    vertical = (rows - points[..., :1]).square_()
    horizontal = (columns - points[..., 1:]).square_()
    radius = radius.to(device, non_blocking=True)[..., None, None]
    cover = (vertical[..., :, None] + horizontal[..., None, :]).sqrt_().neg_().add_(radius + 0.5).clamp_(0, 1)
    cover.mul_(radius.mul(2).clamp_max(1) * strength[..., None, None])
    rows_inside, columns_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    cover.mul_(rows_inside[..., :, None] & columns_inside[..., None, :])
    index = rows.clamp_(0, height - 1).mul_(width)[..., :, None] + columns.clamp_(0, width - 1)[..., None, :]
    canvas = torch.zeros(len(points), height * width, device=device)
    canvas.scatter_reduce_(1, index.long().flatten(1), cover.flatten(1), "amax")
    return canvas.view(-1, 1, height, width)
