"""Patches of a feature map replaced by mixtures of patches of a clean reference (RBFRM)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_NORM = 1e-8


def to_patches(features: Tensor, patch_size: int) -> Tensor:
    """Cut (B, C, H, W) into N disjoint squares, flattened to (B, N, C * patch_size^2), row by row."""
    # Contiguous, because the fused kernels refuse anything else without a word, and the matrix of pairs would be kept.
    return F.pixel_unshuffle(features, patch_size).flatten(2).transpose(1, 2).contiguous()


def from_patches(patches: Tensor, patch_size: int, size: tuple[int, int]) -> Tensor:
    """Put the patches of :func:`to_patches` back to (B, C, H, W), ``size`` being (H, W)."""
    rows, columns = size[0] // patch_size, size[1] // patch_size
    return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (rows, columns)), patch_size)


def attend_to_reference(features: Tensor, reference: Tensor, patch_size: int, temperature: float = 1.0) -> Tensor:
    """Replace every patch by the reference patches, weighted by the softmax of ``cosine similarity / temperature``.

    One fused attention for the whole batch: the matrix of all pairs of patches is not kept where PyTorch has a kernel
    for it (CPU and GPU). Sizes that ``patch_size`` does not divide are filled up by repeating the last row or column.

    Args:
        features: (B, C, H, W).
        reference: (1, C, H', W') of one clean image, of any size.
        patch_size: Side of a patch.
        temperature: 1 is eq. 4 as printed, which mixes almost evenly; towards 0 the most similar patch wins.

    Returns:
        (B, C, H, W).
    """
    height, width = features.shape[-2:]
    filled = _fill_up(features, patch_size)
    patches = to_patches(filled, patch_size)
    reference_patches = to_patches(_fill_up(reference, patch_size), patch_size)
    # All images ask the same reference: to the attention they are one long sequence.
    queries = F.normalize(patches, dim=-1, eps=_SMALLEST_NORM).flatten(0, 1)[None, None]
    keys = F.normalize(reference_patches, dim=-1, eps=_SMALLEST_NORM)[None]
    mixed = F.scaled_dot_product_attention(queries, keys, reference_patches[None], scale=1 / temperature)
    mixed = mixed[0, 0].unflatten(0, (patches.shape[0], patches.shape[1]))
    return from_patches(mixed, patch_size, (filled.shape[-2], filled.shape[-1]))[..., :height, :width]


def attention_sharpness(features: Tensor, reference: Tensor, patch_size: int, temperature: float = 1.0) -> Tensor:
    """Largest weight of a patch in units of the uniform weight, averaged over the patches; a scalar >= 1.

    At 1 every patch is replaced by the mean patch of the reference; at the number of reference patches by a single one.
    """
    patches, reference_patches = (
        F.normalize(to_patches(_fill_up(maps, patch_size), patch_size), dim=-1, eps=_SMALLEST_NORM)
        for maps in (features, reference)
    )
    weights = torch.softmax(patches @ reference_patches.transpose(1, 2) / temperature, dim=-1)
    return weights.amax(dim=-1).mean() * reference_patches.shape[1]


def _fill_up(features: Tensor, patch_size: int) -> Tensor:
    height, width = features.shape[-2:]
    if height % patch_size == 0 and width % patch_size == 0:
        return features
    return F.pad(features, (0, -width % patch_size, 0, -height % patch_size), mode="replicate")
