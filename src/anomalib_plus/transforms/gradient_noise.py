"""Perlin's gradient noise for a whole batch, every map with its own number of lattice cells.

A map is the sum over lattice points of ``fade * fade * (gradient . offset)``. The fades of the two axes multiply and
the offset of an axis depends on that axis alone, so the sum over lattice points is two matrix products per map.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from anomalib_plus.counts import counted


@lru_cache(maxsize=64)
def _axis_weights(cells: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Influence of each lattice line on each pixel of one axis.

    Small and needed for every batch, so they are kept; in double precision, because the fades of neighbouring lines
    must sum to 1.

    Returns:
        The quintic fades, (size, cells + 1), the fades times the signed distances in cells, and both transposed,
        (2 * (cells + 1), size).
    """
    distance = torch.arange(size, dtype=torch.float64)[:, None] * cells / size - torch.arange(cells + 1)
    nearness = (1 - distance.abs()).clamp_min(0)
    fade = nearness**3 * (nearness * (nearness * 6 - 15) + 10)
    # Noise of unit gradients lies within 1 / sqrt(2). Both axes together scale it to 1.
    weights = torch.cat([fade, fade * distance], dim=1) * 2**0.25
    weights = weights.float().to(device, non_blocking=True)
    fade, slope = weights.chunk(2, dim=1)
    return fade, slope, weights.mT


def gradient_noise(cells: Tensor, angles: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient noise in [-1, 1].

    Args:
        cells: (B, 2) int64 on the host, lattice cells along height and width.
        angles: (B, L, L) float32, direction of the gradient at each lattice point in radians, L > every number of
            cells. Points past a map's own lattice have no influence. Its device is the device of the result.
        size: Height and width in pixels.

    Returns:
        (B, height, width) float32.

    Raises:
        ValueError: If there are fewer lattice points than cells.
    """
    num_lines = angles.shape[-1]
    if int(cells.max()) >= num_lines:
        most = int(cells.max())
        msg = f"{counted(most, 'cell needs', 'cells need')} {most + 1} lattice lines, the angles have {num_lines}."
        raise ValueError(msg)
    noise = angles.new_empty(len(angles), *size)
    # Autocast would round the lattice products to half precision, and a mask is a threshold on them.
    with torch.autocast(angles.device.type, enabled=False):
        # One by one, because most lattices are small.
        for (down, across), sin, cos, own in zip(cells.tolist(), angles.sin(), angles.cos(), noise, strict=True):
            fade, slope, _ = _axis_weights(down, size[0], angles.device)
            lattice = slice(down + 1), slice(across + 1)
            rows = torch.cat([slope @ sin[lattice], fade @ cos[lattice]], dim=1)
            torch.mm(rows, _axis_weights(across, size[1], angles.device)[2], out=own)
    return noise


def draw_gradient_noise(
    count: int,
    size: tuple[int, int],
    log2_cells: tuple[int, int],
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw ``count`` maps (B, height, width); cells per axis are 2 to a power uniform in ``log2_cells``, inclusive.

    Everything random comes from the host, so one CPU ``generator`` state gives the same maps on every device.
    """
    low, high = log2_cells
    cells = 2 ** torch.randint(low, high + 1, (count, 2), generator=generator)
    num_lines = 2**high + 1
    angles = torch.rand(count, num_lines, num_lines, generator=generator) * (2 * math.pi)
    return gradient_noise(cells, angles.to(device, non_blocking=True), size)
