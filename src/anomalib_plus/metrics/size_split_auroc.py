"""Image AUROC by the size of the defects."""

from collections.abc import Sequence
from typing import Literal

import torch
from anomalib.metrics.base import AnomalibMetric
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from anomalib_plus.layers.checks import check_choice
from anomalib_plus.metrics.per_image_auroc import area_under_roc

DefectSize = Literal["small", "middle", "large"]


class _SizeSplitAUROC(Metric):
    full_state_update = False
    higher_is_better = True
    scores: list[Tensor]
    ratios: list[Tensor]
    labels: list[Tensor]

    def __init__(self, size: DefectSize = "small", bounds: tuple[float, float] = (0.05, 0.2)) -> None:
        super().__init__()
        check_choice("size", size, DefectSize)
        if not 0 < bounds[0] <= bounds[1] < 1:
            msg = f"bounds must be two ascending fractions between 0 and 1, got {bounds}."
            raise ValueError(msg)
        self.size: DefectSize = size
        self.bounds = bounds
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("ratios", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, masks: Tensor, labels: Tensor) -> None:
        """Add image scores (B,), true masks (B, H, W) or (B, 1, H, W), and true labels (B,).

        An image is defective by its label, not by its mask.
        """
        self.scores.append(scores.flatten())
        self.ratios.append(masks.bool().flatten(1).double().mean(dim=1))
        self.labels.append(labels.flatten().bool())

    def compute(self) -> Tensor:
        """Compute the AUROC; NaN if there are no normal images or no defects of the size."""
        if not self.scores:
            return torch.tensor(float("nan"))
        scores, ratios, labels = map(dim_zero_cat, (self.scores, self.ratios, self.labels))
        return auroc_of_size(scores, ratios, labels, self.size, self.bounds).float()


class SizeSplitAUROC(AnomalibMetric, _SizeSplitAUROC):
    """Image AUROC of all normal images against the images with defects of one size (Table 3 of the AST-MFR paper).

    The size is the fraction of anomalous pixels: small below 5 %, large above 20 %, middle between and at both bounds.
    A defective image with an empty mask, for example after resizing, counts as small. Scores may have any range.

    All sizes share the normal images, so the AUROC of all images is the mean over sizes weighted by their numbers of
    defective images.

    Use one metric per size in an ``Evaluator(test_metrics=[...])``; batches need ``pred_score``, ``gt_mask`` and
    ``gt_label``. The metric's name is ``{prefix}AUROC_{size}``.

    Args:
        size: "small", "middle" or "large".
        bounds: Upper bound of small and lower bound of large, as fractions of the image.
        prefix: Prefix of the metric's name.
        arguments: Arguments of anomalib's metrics (``fields``, ``strict``).

    Raises:
        ValueError: If ``size`` is unknown or the bounds do not ascend.
    """

    default_fields: Sequence[str] = ("pred_score", "gt_mask", "gt_label")

    def __init__(
        self,
        size: DefectSize = "small",
        bounds: tuple[float, float] = (0.05, 0.2),
        prefix: str = "image_",
        **arguments: bool | Sequence[str] | None,
    ) -> None:
        super().__init__(prefix=prefix, size=size, bounds=bounds, **arguments)  # type: ignore[call-arg]
        self.name = f"{prefix}AUROC_{size}"


def auroc_of_size(
    scores: Tensor, ratios: Tensor, labels: Tensor, size: DefectSize, bounds: tuple[float, float] = (0.05, 0.2)
) -> Tensor:
    """Compute the AUROC of all normal images against the defective ones of a size.

    Args:
        scores: (N,), any range.
        ratios: Fractions of anomalous pixels (N,).
        labels: (N,), boolean.
        size: See :class:`SizeSplitAUROC`.
        bounds: See there.

    Returns:
        A scalar, float64; NaN if there are no normal images or no defects of the size.
    """
    defects = labels & in_bin(ratios, size, bounds)
    chosen = defects | ~labels
    if not defects.any() or defects[chosen].all():
        return torch.tensor(float("nan"), dtype=torch.float64)
    return area_under_roc(scores[chosen], defects[chosen])


def in_bin(ratios: Tensor, size: DefectSize, bounds: tuple[float, float] = (0.05, 0.2)) -> Tensor:
    """Select the fractions of anomalous pixels that count as ``size``; both bounds belong to the middle."""
    small, large = ratios < bounds[0], ratios > bounds[1]
    return {"small": small, "large": large, "middle": ~small & ~large}[size]
