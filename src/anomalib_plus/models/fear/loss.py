"""Training loss of FEAR: reconstruction (structural similarity and squared error) and segmentation (focal)."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from anomalib_plus.layers.checks import check_focal_arguments
from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.layers.similarity import ssim_map


def focal_loss(logits: Tensor, mask: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Mean over pixels of ``-(1 - p)^gamma * log(p)`` with ``p`` the softmax of the true class (eq. 7).

    Args:
        logits: (B, 2, H, W), normal first.
        mask: (B, 1, H, W), 1 on an anomaly, else 0.
        gamma: Focusing exponent; 0 for the cross-entropy.
        alpha: Weight of the anomalous class in [0, 1]; the normal one gets ``1 - alpha``. None weighs both by 1.

    Returns:
        A scalar.
    """
    # The softmax of two classes is the sigmoid of their difference.
    margin = logits[:, 1:] - logits[:, :1]
    return sigmoid_focal_loss(margin, mask, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean")


class FEARLoss(nn.Module):
    """``ssim_weight * L_SSIM + L_2 + L_seg`` (eq. 6 and 7).

    Args: Those of :class:`~anomalib_plus.models.fear.lightning_model.FEAR` of the same name; with ``ssim_weight=0`` the
        term is skipped.

    Raises:
        ValueError: If the weight is negative or a focal argument out of range.
    """

    def __init__(self, ssim_weight: float = 1.0, focal_gamma: float = 2.0, focal_alpha: float | None = None) -> None:
        super().__init__()
        if ssim_weight < 0:
            msg = f"ssim_weight must not be negative, got {ssim_weight}."
            raise ValueError(msg)
        check_focal_arguments(focal_gamma, focal_alpha)
        self.ssim_weight = ssim_weight
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha

    def forward(self, reconstruction: Tensor, logits: Tensor, target: Tensor, mask: Tensor) -> LossTerms:
        """Compute the loss in float32, whatever the trainer's precision.

        Args:
            reconstruction: (B, 3, H, W).
            logits: Predicted anomalies (B, 2, H, W), normal first.
            target: Clean images (B, 3, H, W) in [0, 1].
            mask: True anomalies (B, 1, H, W), 0 or 1.
        """
        with full_precision(target.device.type):
            target, reconstruction, mask, logits = (x.float() for x in (target, reconstruction, mask, logits))
            terms = {
                "l2": F.mse_loss(reconstruction, target),
                "segmentation": focal_loss(logits, mask, self.focal_gamma, self.focal_alpha),
            }
            total = terms["l2"] + terms["segmentation"]
            if self.ssim_weight:
                terms["ssim"] = (1 - ssim_map(target, reconstruction)).mean()
                total = total + self.ssim_weight * terms["ssim"]
        return LossTerms(total, terms)
