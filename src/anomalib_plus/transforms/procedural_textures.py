"""Textures out of nothing, for machines without a texture folder."""

import math

import torch
from torch import Tensor

from anomalib_plus.transforms.gradient_noise import gradient_noise

NUM_OCTAVES = 4


def procedural_textures(count: int, size: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """Draw coloured multi-octave noise: clouds, ridges and bands, coarse and fine, stretched and isotropic.

    An anomaly mask is one octave of noise cut at a threshold. These are sums of several octaves in three independent
    colour channels, folded and mixed, so that a network cannot know the paste by the shape of its own outline.

    Args:
        count: Number of textures B.
        size: Height and width.
        generator: CPU generator; torch's default one if None.

    Returns:
        (B, 3, height, width), uint8.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + torch.rand(count, *shape, generator=generator) * (high - low)

    coarsest = uniform(1, 4, 2)
    persistence = uniform(0.4, 1.0)
    fields = torch.zeros(count * 3, *size)
    for octave in range(NUM_OCTAVES):
        cells = (2 ** (coarsest + octave)).long().clamp_max(min(size) // 2)
        num_lines = int(cells.max()) + 1
        angles = torch.rand(count * 3, num_lines, num_lines, generator=generator) * (2 * math.pi)
        noise = gradient_noise(cells.repeat_interleave(3, 0), angles, size)
        fields.add_(noise * (persistence**octave).repeat_interleave(3)[:, None, None])
    fields = fields.view(count, 3, *size)
    fields /= fields.square().mean((1, 2, 3), keepdim=True).sqrt()

    kind = torch.randint(0, 3, (count,), generator=generator)[:, None, None, None]
    num_bands = uniform(1, 4, 1, 1, 1)
    ridges, bands = fields.abs() - 0.8, (fields * num_bands).sin()
    fields = torch.where(kind == 0, fields, torch.where(kind == 1, ridges, bands))

    # One field shades all colours alike, all three tint them; squared, so that most textures are nearly grey.
    shading, tint = uniform(0.1, 0.35, 1, 1, 1), uniform(0, 1, 1, 1).square()
    mixing = uniform(-0.3, 0.3, 3, 3) * tint
    base = uniform(0.2, 0.8, 1, 1, 1) + uniform(-0.4, 0.4, 3, 1, 1) * tint[..., None]
    colours = torch.einsum("bij,bjhw->bihw", mixing, fields) + fields[:, :1] * shading + base
    return (colours.clamp_(0, 1) * 255).round_().byte()
