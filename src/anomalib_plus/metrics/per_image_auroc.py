"""Pixel AUROC per image, averaged over images, as some papers report it."""

from collections.abc import Sequence

import torch
from anomalib.metrics.base import AnomalibMetric
from torch import Tensor
from torchmetrics import MeanMetric


def area_under_roc(scores: Tensor, labels: Tensor) -> Tensor:
    """AUROC as the fraction of (negative, positive) pairs in the right order; ties count half.

    Args:
        scores: Any shape and range.
        labels: Same shape, boolean; both classes must occur.
    """
    positives, negatives = scores[labels], scores[~labels].sort().values
    below = torch.searchsorted(negatives, positives.contiguous(), right=False)
    up_to = torch.searchsorted(negatives, positives.contiguous(), right=True)
    return (below + up_to).double().mean() / (2 * len(negatives))


def aurocs_of_images(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute the pixel AUROC of each image whose mask has both classes.

    Args:
        maps: (N, H, W) or (N, 1, H, W), any range.
        masks: Same size, boolean.

    Returns:
        (M,) with M <= N, float64.
    """
    pairs = zip(maps.flatten(1), masks.flatten(1), strict=True)
    values = [area_under_roc(scores, labels) for scores, labels in pairs if labels.any() and not labels.all()]
    return torch.stack(values) if values else maps.new_empty(0, dtype=torch.float64)


class _MeanImageAUROC(MeanMetric):
    higher_is_better = True  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.set_dtype(torch.float64)

    def update(self, maps: Tensor, masks: Tensor) -> None:  # type: ignore[override]
        """Add maps and masks (B, H, W) or (B, 1, H, W)."""
        if maps.numel() != masks.numel():
            msg = f"Maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must have the same size."
            raise ValueError(msg)
        super().update(aurocs_of_images(maps, masks.bool()))


class PerImageAUROC(AnomalibMetric, _MeanImageAUROC):
    """Pixel AUROC of each anomalous image, averaged over images (the protocol of RAMFAE's Tables 2 to 4).

    Images whose mask has one class only are ignored, and so is the calibration between images, so it usually exceeds
    the pooled AUROC. Scores may have any range. Use it in an ``Evaluator(test_metrics=[...])``; batches need
    ``anomaly_map`` and ``gt_mask``.
    """

    default_fields: Sequence[str] = ("anomaly_map", "gt_mask")
