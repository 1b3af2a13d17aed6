"""Training loss of RAMFAE: gradient similarity deviation, structural similarity and squared error."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.checks import check_choice
from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.layers.similarity import GMS_CONSTANT, gms_map, ssim_map
from anomalib_plus.models.ramfae.anomaly_map import ChannelReduction, check_gms_constant

GmsdForm = Literal["variance", "std"]


def gmsd_loss(
    clean: Tensor, reconstruction: Tensor, form: GmsdForm = "variance", constant: float = GMS_CONSTANT
) -> Tensor:
    """Spread of the gradient similarity over an image, averaged over channels and batch; a scalar.

    ``variance`` is eq. 11, at most 0.25 and smooth where the images agree; ``std`` is GMSD itself (eq. 10). Any
    constant similarity gives 0, so this term alone does not determine the reconstruction.
    """
    variance = gms_map(clean, reconstruction, constant).var(dim=(-2, -1), correction=0)
    return (variance if form == "variance" else (variance + 1e-12).sqrt()).mean()


def ssim_loss(clean: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean of ``1 - SSIM`` (eq. 13), twice kornia's loss; a scalar in [0, 2]."""
    return (1 - ssim_map(clean, reconstruction)).mean()


class RamFAELoss(nn.Module):
    """``gmsd_weight * L_GMSD + ssim_weight * L_SSIM + l2_weight * L_2`` (eq. 14); a zero weight skips its term.

    Args: Those of :class:`~anomalib_plus.models.ramfae.lightning_model.RamFAE` of the same name; ``gmsd_form`` is its
        ``gmsd_loss``, and ``channel_reduction`` applies to GMSD and SSIM only.

    Raises:
        ValueError: If a weight is negative or all are zero, ``gms_constant`` is not positive, or a choice is unknown.
    """

    def __init__(
        self,
        gmsd_weight: float = 1.0,
        ssim_weight: float = 1.0,
        l2_weight: float = 1.0,
        gmsd_form: GmsdForm = "variance",
        gms_constant: float = GMS_CONSTANT,
        channel_reduction: ChannelReduction = "map_mean",
    ) -> None:
        super().__init__()
        check_choice("gmsd_loss", gmsd_form, GmsdForm)
        check_choice("channel_reduction", channel_reduction, ChannelReduction)
        check_gms_constant(gms_constant)
        self.weights = {"gmsd": gmsd_weight, "ssim": ssim_weight, "l2": l2_weight}
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            msg = f"The loss weights must not be negative and one must be positive, got {self.weights}."
            raise ValueError(msg)
        self.gmsd_form = gmsd_form
        self.gms_constant = gms_constant
        self.channel_reduction = channel_reduction

    def forward(self, reconstruction: Tensor, target: Tensor) -> LossTerms:
        """Compare two batches (B, C, H, W) in [0, 1], in float32 whatever the trainer's precision."""
        with full_precision(target.device.type):
            target, reconstruction = target.float(), reconstruction.float()
            pair = (target, reconstruction)
            if self.channel_reduction == "gray":
                pair = (target.mean(dim=1, keepdim=True), reconstruction.mean(dim=1, keepdim=True))
            terms = {}
            if self.weights["gmsd"]:
                terms["gmsd"] = gmsd_loss(*pair, self.gmsd_form, self.gms_constant)
            if self.weights["ssim"]:
                terms["ssim"] = ssim_loss(*pair)
            if self.weights["l2"]:
                terms["l2"] = F.mse_loss(reconstruction, target)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return LossTerms(total, terms)
