"""The guarantees of placed defects: labels are visible, changes are labelled, grey images stay grey."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Grey = bool | Literal["auto"]
"""Choice of grey fillings: for all images, none, or those without colours."""

MIN_CHANGE = 0.025
"""Smallest mean absolute change inside a label, in units of the range of values: six grey levels of 8 bits."""

_MOST_TINT, _FIELDS = 0.02, 16
"""Mean difference of the largest and the smallest channel below which an image has no colours, and the fields along a
side whose means are compared, because noise is no colour."""
_MAX_GAIN = 4.0
_MARGIN = 1.5


def ensure_visible(images: Tensor, clean: Tensor, changed: Tensor, cover: Tensor, edge: float) -> tuple[Tensor, Tensor]:
    """Label what is covered, restore all else to the bit, and strengthen a change that is too weak to be seen.

    A weak change is first multiplied. Where that is not enough, because the values are at their limit or the image is
    plain, the label is shaded towards black or white, whichever is farther, which always suffices. The host waits for
    the device once.

    Args:
        images: (B, C, H, W), as they came.
        clean: The same in float32.
        changed: (B, C, H, W) float32; overwritten.
        cover: (B, 1, H, W) float32, share of each pixel that is covered.
        edge: Least cover that counts.

    Returns:
        Images of the type they came in, and masks of it: 1 where the cover exceeds ``edge``.
    """
    labels = cover > edge
    area = labels.sum((1, 2, 3)).clamp_min(1)
    result = torch.where(labels, changed.clamp_(0, 1).to(images.dtype), images)

    def mean_inside(values: Tensor) -> Tensor:
        return (values.sum(1) * labels[:, 0]).sum((1, 2)) / (area * values.shape[1])

    change = mean_inside((result - images).abs_().float())
    weak = (change < MIN_CHANGE) & labels.any(3).any(2)[:, 0]
    if weak.any():
        gain = (MIN_CHANGE * _MARGIN / change.clamp_min(1e-6)).clamp(1, _MAX_GAIN)[:, None, None, None]
        stronger = ((result - clean) * gain + clean).clamp_(0, 1)
        still_weak = mean_inside((stronger - clean).abs()) < MIN_CHANGE * 1.1
        weight = cover.clamp(0, 1)
        brightness = mean_inside(clean * weight) / mean_inside(weight).clamp_min(1e-6)
        pole = (brightness < 0.5).float()[:, None, None, None]
        reach = mean_inside((pole - clean).abs_() * weight).clamp_min(1e-6)
        share = (MIN_CHANGE * _MARGIN / reach).clamp_max(1)[:, None, None, None]
        shaded = clean + (pole - clean) * weight * share
        visible = torch.where(still_weak[:, None, None, None], shaded, stronger).to(images.dtype)
        result = torch.where(labels & weak[:, None, None, None], visible, result)
    return result, labels.to(images.dtype)


def keep_grey(changed: Tensor, images: Tensor) -> Tensor:
    """Make the three channels of ``changed`` (B, C, h, w) equal for ``images`` (B, C, H, W) whose channels are."""
    if images.shape[1] != 3:
        return changed
    return torch.where(is_grey(images), changed.mean(1, keepdim=True), changed)


def is_grey(images: Tensor) -> Tensor:
    """Find the images (B, C, H, W) with equal channels everywhere; bool (B, 1, 1, 1)."""
    if images.shape[1] == 1:
        return images.new_ones(len(images), 1, 1, 1, dtype=torch.bool)
    equal = (images[:, 0] == images[:, 1]) & (images[:, 1] == images[:, 2])
    return equal.flatten(1).all(1)[:, None, None, None]


def check_grey(grey: object) -> None:
    """Raise ``ValueError`` unless the argument is one of :data:`Grey`."""
    if grey not in (True, False, "auto"):
        msg = f'grey must be true, false or "auto", got {grey!r}.'
        raise ValueError(msg)


def gets_grey(images: Tensor, grey: Grey) -> Tensor:
    """Find the images (B, C, H, W) that become grey; bool (B, 1, 1, 1). "auto" ignores noise and tinted light."""
    if grey == "auto":
        means = F.adaptive_avg_pool2d(images.float(), _FIELDS)
        return (means.amax(1) - means.amin(1)).mean((1, 2))[:, None, None, None] < _MOST_TINT
    return images.new_full((len(images), 1, 1, 1), grey, dtype=torch.bool)
