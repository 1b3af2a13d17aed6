"""RBAM: repair of features with patches of a reference image, by attention (RBFRM) and fusion (FFM); eq. 4 to 8."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from anomalib_plus.layers.paper_size import PaperSize, whole_pixels_at
from anomalib_plus.layers.precision import full_precision

_SMALLEST_NORM = 1e-8

PatchSize = int | tuple[int, int]
"""Side of square patches, or height and width."""


def paper_patch_sizes(stride: int) -> tuple[PaperSize, ...]:
    """Return the paper's patches, 2 and 4 locations of a feature map, for one with this stride in 256x256 images."""
    return tuple(PaperSize(side, 256 // stride) for side in (2, 4))


def to_patches(features: Tensor, patch_size: PatchSize) -> Tensor:
    """Split (B, C, H, W) into N disjoint patches in row order, flattened to (B, N, C * locations of a patch)."""
    height, width = _sides(patch_size)
    # Contiguous, else the attention silently falls back to a kernel that stores the matrix of all pairs.
    return rearrange(features, "b c (h p) (w q) -> b (h w) (c p q)", p=height, q=width).contiguous()


def from_patches(patches: Tensor, patch_size: PatchSize, size: tuple[int, int]) -> Tensor:
    """Invert :func:`to_patches` to (B, C, H, W), where ``size`` is (H, W)."""
    height, width = _sides(patch_size)
    return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0] // height, p=height, q=width)


def attend_to_reference(features: Tensor, reference: Tensor, patch_size: PatchSize, temperature: float = 1.0) -> Tensor:
    """Replace each patch by a mean of the reference's, weighted by the softmax of ``cosine similarity / temperature``.

    One fused attention for the whole batch, which does not store the matrix of all pairs of patches (CPU and GPU).
    Sizes that ``patch_size`` does not divide are padded by repeating the last row or column.

    Args:
        features: (B, C, H, W).
        reference: Features (1, C, H', W') of one clean image, of any size.
        patch_size: Side of a patch, or its height and width.
        temperature: 1 is eq. 4 as printed, which averages almost uniformly; near 0 the most similar patch is taken.

    Returns:
        (B, C, H, W).
    """
    height, width = features.shape[-2:]
    padded = _pad(features, patch_size)
    patches = to_patches(padded, patch_size)
    reference_patches = to_patches(_pad(reference, patch_size), patch_size)
    # One long sequence of queries, because all images share the reference.
    queries = F.normalize(patches, dim=-1, eps=_SMALLEST_NORM).flatten(0, 1)[None, None]
    keys = F.normalize(reference_patches, dim=-1, eps=_SMALLEST_NORM)[None]
    mixed = F.scaled_dot_product_attention(queries, keys, reference_patches[None], scale=1 / temperature)
    mixed = mixed[0, 0].unflatten(0, (patches.shape[0], patches.shape[1]))
    return from_patches(mixed, patch_size, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]


def attention_sharpness(features: Tensor, reference: Tensor, patch_size: PatchSize, temperature: float = 1.0) -> Tensor:
    """Largest attention weight divided by the uniform weight, averaged over the patches; a scalar >= 1.

    At 1 every patch is replaced by the reference's mean patch; at the number of reference patches by a single one.
    """
    patches, reference_patches = (
        F.normalize(to_patches(_pad(maps, patch_size), patch_size), dim=-1, eps=_SMALLEST_NORM)
        for maps in (features, reference)
    )
    weights = torch.softmax(patches @ reference_patches.transpose(1, 2) / temperature, dim=-1)
    return weights.amax(dim=-1).mean() * reference_patches.shape[1]


def _pad(features: Tensor, patch_size: PatchSize) -> Tensor:
    missing = [-length % side for length, side in zip(features.shape[-2:], _sides(patch_size), strict=True)]
    return F.pad(features, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else features


def _sides(patch_size: PatchSize) -> tuple[int, int]:
    return (patch_size, patch_size) if isinstance(patch_size, int) else patch_size


class FeatureFusion(nn.Module):
    """Weighted sum of branches, with weights that sum to 1 at every channel and location.

    Args:
        channels: Channels of each branch.
        num_branches: Number of branches: the feature map and its repaired versions.
        hidden_channels: Channels between the two convolutions.
        kernel_size: Side of both convolutions (odd); larger than the largest patch in the paper.
    """

    def __init__(self, channels: int, num_branches: int = 3, hidden_channels: int = 64, kernel_size: int = 5) -> None:
        super().__init__()
        self.num_branches = num_branches
        self.squeeze = Conv2dNormActivation(channels, hidden_channels, kernel_size)
        self.excite = nn.Conv2d(hidden_channels, num_branches * channels, kernel_size, padding=kernel_size // 2)

    def weights(self, branches: Tensor) -> Tensor:
        """Compute weights of branches (B, branches, C, H, W): same shape, in [0, 1], summing to 1 over the branches."""
        scores = self.excite(self.squeeze(branches.sum(dim=1)))
        return scores.unflatten(1, (self.num_branches, -1)).softmax(dim=1)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """Fuse branches of (B, C, H, W) each to (B, C, H, W)."""
        stacked = torch.stack(tuple(branches), dim=1)
        return (self.weights(stacked) * stacked).sum(dim=1)


class FeatureRepair(nn.Module):
    """RBAM of one layer: attention to the reference at several patch sizes, fused with the feature map itself.

    Args:
        channels: Channels of the layer.
        patch_sizes: Sides of the patches, or a paper's, which are scaled; the features are repaired once for each.
        temperature: See :func:`attend_to_reference`.
        hidden_channels: See :class:`FeatureFusion`.
        kernel_size: See there.
    """

    def __init__(
        self,
        channels: int,
        patch_sizes: Sequence[int | PaperSize] = (2, 4),
        temperature: float = 1.0,
        hidden_channels: int = 64,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.patch_sizes = tuple(patch_sizes)
        self.temperature = temperature
        self.fusion = FeatureFusion(channels, len(self.patch_sizes) + 1, hidden_channels, kernel_size)

    def forward(self, features: Tensor, reference: Tensor) -> Tensor:
        """Repair (B, C, H, W) with the features (1, C, H', W') of the reference image; (B, C, H, W).

        The attention is computed in float32, because a sharp softmax amplifies the rounding of cosines.
        """
        with full_precision(features.device.type):
            values, clean = features.float(), reference.float()
            sizes = [self.patch(size, features) for size in self.patch_sizes]
            # In small images, scaled sizes can be equal.
            repaired = {
                size: attend_to_reference(values, clean, size, self.temperature) for size in dict.fromkeys(sizes)
            }
        return self.fusion([*(repaired[size] for size in sizes), features])

    def sharpness(self, features: Tensor, reference: Tensor) -> Tensor:
        """Compute :func:`attention_sharpness` at the smallest patch size; a scalar."""
        with full_precision(features.device.type):
            smallest = self.patch(min(self.patch_sizes), features)
            return attention_sharpness(features.float(), reference, smallest, self.temperature)

    @staticmethod
    def patch(size: int | PaperSize, features: Tensor) -> tuple[int, int]:
        """Scale a side to height and width of the patches of (B, C, H, W)."""
        height, width = features.shape[-2:]
        return whole_pixels_at(size, height), whole_pixels_at(size, width)
