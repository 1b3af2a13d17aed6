"""Training loss of AST-MFR: distance between regenerated and teacher features."""

from collections.abc import Sequence

from torch import Tensor, nn

from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.models.astmfr.anomaly_map import feature_distance


class AstMFRLoss(nn.Module):
    """``L_cos + l2_weight * L_L2``, each the sum over levels of the mean distance (eq. 2 and 4).

    Both parts are equal, so one is computed and multiplied by ``1 + l2_weight``. With Adam the weight changes the
    logged value only.

    Args:
        l2_weight: The paper's alpha.

    Raises:
        ValueError: If the weight is negative.
    """

    def __init__(self, l2_weight: float = 1.0) -> None:
        super().__init__()
        if l2_weight < 0:
            msg = f"l2_weight must not be negative, got {l2_weight}."
            raise ValueError(msg)
        self.l2_weight = l2_weight

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> LossTerms:
        """Compare maps (B, C, h, w), one of each network per level; the terms are the mean distance of each level."""
        with full_precision(students[0].device.type):
            distances = [
                feature_distance(student, teacher).mean() for student, teacher in zip(students, teachers, strict=True)
            ]
        total = (1 + self.l2_weight) * sum(distances[1:], start=distances[0])
        return LossTerms(total, {f"level{number}": distance for number, distance in enumerate(distances, 1)})
