"""Training loss of TSDN: reconstruction (squared error, SSIM, gradients), mask, and normality of the channels."""

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.checks import check_choice
from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.layers.similarity import gms_distances_per_scale, ssim_map
from anomalib_plus.models.tsdn.feature_normality import normality_target

if TYPE_CHECKING:
    from anomalib_plus.models.tsdn.torch_model import TSDNOutput

FneReduction = Literal["sum", "mean"]

GMS_CONSTANT = 0.0026
"""170 / 255^2 as the gradient similarity's authors round it for values in [0, 1]."""


def ssim_distance(target: Tensor, reconstruction: Tensor) -> Tensor:
    """``1 - mean SSIM`` of two batches (B, C, H, W) in [0, 1]; a scalar in [0, 2]."""
    return 1 - ssim_map(target, reconstruction).mean()


def gms_distance(target: Tensor, reconstruction: Tensor, num_scales: int = 1) -> Tensor:
    """``1 - mean GMS`` of the channels' mean, averaged over scales; a scalar in [0, 1)."""
    target, reconstruction = target.mean(dim=1, keepdim=True), reconstruction.mean(dim=1, keepdim=True)
    distances = gms_distances_per_scale(target, reconstruction, num_scales, GMS_CONSTANT)
    return torch.stack([distance.mean() for distance in distances]).mean()


def normality_loss(logits: Tensor, target: Tensor, reduction: FneReduction = "sum") -> Tensor:
    """Binary cross-entropy of (B, C) with soft targets, summed or averaged over channels, averaged over images."""
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (losses.sum(dim=1) if reduction == "sum" else losses.mean(dim=1)).mean()


class TSDNLoss(nn.Module):
    """Weighted sum of five terms; terms of weight 0, or of parts that the network lacks, are skipped.

    Args: Those of :class:`~anomalib_plus.models.tsdn.lightning_model.TSDN` of the same name.

    Raises:
        ValueError: If a weight is negative or another number not positive.
    """

    def __init__(
        self,
        l2_weight: float = 1.0,
        ssim_weight: float = 0.5,
        gms_weight: float = 1.0,
        mask_weight: float = 1.0,
        fne_weight: float = 5e-5,
        gms_scales: int = 1,
        ssim_size: int | None = None,
        fne_reduction: FneReduction = "sum",
    ) -> None:
        super().__init__()
        self.weights = {
            "l2": l2_weight,
            "ssim": ssim_weight,
            "gms": gms_weight,
            "mask": mask_weight,
            "fne": fne_weight,
        }
        if min(self.weights.values()) < 0 or l2_weight + ssim_weight + gms_weight == 0:
            values = ", ".join(f"{name}_weight={weight}" for name, weight in self.weights.items())
            msg = f"Weights must not be negative, and one of l2, ssim and gms must be positive, got {values}."
            raise ValueError(msg)
        if gms_scales < 1:
            msg = f"gms_scales must be positive, got {gms_scales}."
            raise ValueError(msg)
        if ssim_size is not None and ssim_size < 11:
            msg = f"ssim_size must be at least 11, the side of SSIM's window, or None, got {ssim_size}."
            raise ValueError(msg)
        check_choice("fne_reduction", fne_reduction, FneReduction)
        self.gms_scales = gms_scales
        self.ssim_size = ssim_size
        self.fne_reduction: FneReduction = fne_reduction

    def forward(self, output: "TSDNOutput", target: Tensor, mask: Tensor | None = None) -> LossTerms:
        """Compute the loss in float32, whatever the trainer's precision.

        Args:
            output: Output of the network for the corrupted images.
            target: Clean images (B, 3, H, W) in [0, 1].
            mask: True anomalies (B, 1, H, W), 0 or 1; needed if the network predicts them.
        """
        terms = {}
        with full_precision(target.device.type):
            target, reconstruction = target.float(), output.reconstruction.float()
            if self.weights["l2"]:
                terms["l2"] = F.mse_loss(reconstruction, target)
            if self.weights["ssim"]:
                terms["ssim"] = ssim_distance(target, reconstruction)
            if self.weights["gms"]:
                terms["gms"] = gms_distance(target, reconstruction, self.gms_scales)
            if self.weights["mask"] and output.mask is not None and mask is not None:
                terms["mask"] = F.mse_loss(output.mask.float(), mask.float())
            if self.weights["fne"] and output.normality is not None and output.mask is not None:
                wanted = normality_target(output.features, output.mask, self.ssim_size)
                terms["fne"] = normality_loss(output.normality.float(), wanted, self.fne_reduction)
            total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return LossTerms(total, terms)
