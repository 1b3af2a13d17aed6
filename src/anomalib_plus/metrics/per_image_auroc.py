"""Pixel AUROC as some papers count it: per image, then averaged."""

from collections.abc import Sequence

import torch
from anomalib.metrics.base import AnomalibMetric
from torch import Tensor
from torchmetrics import Metric


def area_under_roc(scores: Tensor, labels: Tensor) -> Tensor:
    """AUROC as the share of (negative, positive) pairs in the right order, ties counting half.

    Args:
        scores: Any shape, any range: nothing but the order counts.
        labels: Same shape, boolean; both classes must occur.
    """
    positives, negatives = scores[labels], scores[~labels].sort().values
    below = torch.searchsorted(negatives, positives.contiguous(), right=False)
    up_to = torch.searchsorted(negatives, positives.contiguous(), right=True)
    return (below + up_to).double().mean() / (2 * len(negatives))


def aurocs_of_images(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the pixel AUROC of each image whose mask has both classes.

    Args:
        maps: (N, H, W) or (N, 1, H, W), any range.
        masks: Same size, boolean.

    Returns:
        (M,) with M <= N, float64.
    """
    pairs = zip(maps.flatten(1), masks.flatten(1), strict=True)
    values = [area_under_roc(scores, labels) for scores, labels in pairs if labels.any() and not labels.all()]
    return torch.stack(values) if values else maps.new_empty(0, dtype=torch.float64)


class _MeanImageAUROC(Metric):
    """Mean over images of the AUROC of their pixels; images whose mask has one class only are left out."""

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Take maps and masks (B, H, W) or (B, 1, H, W)."""
        masks = masks.bool()
        if maps.numel() != masks.numel():
            msg = f"Maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must have the same size."
            raise ValueError(msg)
        values = aurocs_of_images(maps, masks)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """Give the mean; NaN if no image had both classes."""
        return (self.total / self.count).float() if self.count else torch.tensor(float("nan"))


class PerImageAUROC(AnomalibMetric, _MeanImageAUROC):
    """Pixel AUROC of each anomalous image by itself, averaged (the protocol of RAMFAE's Tables 2 to 4).

    It ignores calibration between images and all normal images, and therefore usually exceeds the pooled AUROC. Scores
    of any range are ranked as they are. Use it in an ``Evaluator(test_metrics=[...])``; batches need ``anomaly_map``
    and ``gt_mask``.
    """

    default_fields: Sequence[str] = ("anomaly_map", "gt_mask")
