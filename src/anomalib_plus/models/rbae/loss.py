"""Training losses of the two phases of RB-AE."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from anomalib_plus.layers.checks import check_focal_arguments
from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.models.rbae.perceptual import PerceptualDistance

if TYPE_CHECKING:
    from anomalib_plus.models.rbae.torch_model import EncodingOutput, RepairOutput

_EPSILON = 1e-8


def normalized_residual(clean: Tensor, defective: Tensor) -> Tensor:
    """Squared difference of features (B, C, H, W), averaged over channels, scaled to [0, 1] per image (eq. 2).

    Returns:
        (B, 1, H, W); all zero for a constant residual.
    """
    residual = (clean - defective).square().mean(dim=1, keepdim=True)
    low, high = residual.amin(dim=(2, 3), keepdim=True), residual.amax(dim=(2, 3), keepdim=True)
    return (residual - low) / (high - low + _EPSILON)


def discrimination_loss(clean: Sequence[Tensor], defective: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean over the layers of the squared difference between :func:`normalized_residual` and the mask (eq. 2).

    The mask (B, 1, H, W) is max-pooled to each layer's size, so that thin defects remain.
    """
    pairs = zip(clean, defective, strict=True)
    return torch.stack(
        [F.mse_loss(normalized_residual(a, b), F.adaptive_max_pool2d(mask, a.shape[-2:])) for a, b in pairs]
    ).mean()


def repair_loss(repaired: Sequence[Tensor], clean: Sequence[Tensor]) -> Tensor:
    """Mean over the layers of the squared error of repaired features (eq. 9, divided by the number of layers)."""
    return torch.stack([F.mse_loss(a, b) for a, b in zip(repaired, clean, strict=True)]).mean()


def segmentation_loss(logits: Sequence[Tensor], mask: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Mean over the layers of the focal loss of logits (B, 1, H_i, W_i) with the max-pooled mask."""
    options: dict[str, Any] = {"alpha": -1 if alpha is None else alpha, "gamma": gamma, "reduction": "mean"}
    masks = [F.adaptive_max_pool2d(mask, x.shape[-2:]) for x in logits]
    return torch.stack([sigmoid_focal_loss(x, m, **options) for x, m in zip(logits, masks, strict=True)]).mean()


class RbAELoss(nn.Module):
    """Weighted sums of reconstruction and perceptual loss and, by phase, discrimination or repair and segmentation.

    Terms of weight 0, or of parts that the network lacks, are skipped.

    Args: Those of :class:`~anomalib_plus.models.rbae.lightning_model.RbAE` of the same name.

    Raises:
        ValueError: If a weight is negative, that of the reconstruction zero, or a focal argument out of range.
    """

    def __init__(
        self,
        reconstruction_weight: float = 100.0,
        perceptual_weight: float = 1.0,
        discrimination_weight: float = 1.0,
        repair_weight: float = 1.0,
        segmentation_weight: float = 1.0,
        focal_gamma: float = 2.0,
        focal_alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.weights = {
            "reconstruction": reconstruction_weight,
            "perceptual": perceptual_weight,
            "discrimination": discrimination_weight,
            "repair": repair_weight,
            "segmentation": segmentation_weight,
        }
        if min(self.weights.values()) < 0 or reconstruction_weight == 0:
            values = ", ".join(f"{name}_weight={weight}" for name, weight in self.weights.items())
            msg = f"reconstruction_weight must be positive and no other weight negative, got {values}."
            raise ValueError(msg)
        check_focal_arguments(focal_gamma, focal_alpha)
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha

    def forward(
        self,
        output: "EncodingOutput | RepairOutput",
        target: Tensor,
        mask: Tensor,
        perceptual: PerceptualDistance | None = None,
    ) -> LossTerms:
        """Compute the loss in float32, whatever the trainer's precision.

        Args:
            output: Output of the network in training mode.
            target: Clean images (B, 3, H, W) in [0, 1].
            mask: True defects (B, 1, H, W), 0 or 1.
            perceptual: Perceptual distance; None skips the term.
        """
        terms = {}
        if perceptual is not None and self.weights["perceptual"]:
            terms["perceptual"] = perceptual(output.reconstruction, target)
        with full_precision(target.device.type):
            target, mask = target.float(), mask.float()
            terms["reconstruction"] = F.mse_loss(output.reconstruction.float(), target)
            if hasattr(output, "logits"):
                terms |= self._terms_of_phase_2(cast("RepairOutput", output), mask)
            else:
                terms |= self._terms_of_phase_1(output, mask)
            total = torch.stack([self.weights[name] * value.float() for name, value in terms.items()]).sum()
        return LossTerms(total, terms)

    def _terms_of_phase_1(self, output: "EncodingOutput", mask: Tensor) -> dict[str, Tensor]:
        if not (output.defective_features and self.weights["discrimination"]):
            return {}
        sides = _float32(output.clean_features), _float32(output.defective_features)
        return {"discrimination": discrimination_loss(*sides, mask)}

    def _terms_of_phase_2(self, output: "RepairOutput", mask: Tensor) -> dict[str, Tensor]:
        terms = {}
        if output.repaired_features and self.weights["repair"]:
            terms["repair"] = repair_loss(_float32(output.repaired_features), _float32(output.clean_features))
        if output.logits and self.weights["segmentation"]:
            logits = _float32(output.logits)
            terms["segmentation"] = segmentation_loss(logits, mask, self.focal_gamma, self.focal_alpha)
        return terms


def _float32(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.float() for tensor in tensors]
