"""The distance between regenerated and teacher features, and the training loss made of it."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.layers.precision import full_precision


def unit_vectors(features: Tensor) -> Tensor:
    """Scale the vector at every position of (B, C, h, w) to length 1, in float32."""
    return F.normalize(features.float(), dim=1)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the unit vectors at every position (eq. 3), which is 1 - cosine (eq. 1).

    The two are one number, with one gradient; this form keeps small distances exact, where ``1 - cosine`` cancels. An
    all-zero vector is the only exception: 0.5 instead of 1.

    Args:
        student: (B, C, h, w).
        teacher: (B, C, h, w); of any scale, like the student's.

    Returns:
        (B, 1, h, w) in [0, 2], float32.
    """
    return (unit_vectors(student) - unit_vectors(teacher)).square().sum(dim=1, keepdim=True) / 2


class AstMFRLoss(nn.Module):
    """``L_cos + l2_weight * L_L2``, each the sum over levels of the mean distance (eq. 2 and 4).

    Both parts are the same number, so one is computed and multiplied by ``1 + l2_weight``. With Adam the weight changes
    the logged value only.

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
        """Compare pairs of maps (B, C, h, w), one pair per level, in float32 whatever the trainer's precision.

        The terms are the mean distance of each level.
        """
        with full_precision(students[0].device.type):
            distances = [
                feature_distance(student, teacher).mean() for student, teacher in zip(students, teachers, strict=True)
            ]
        total = (1 + self.l2_weight) * sum(distances[1:], start=distances[0])
        return LossTerms(total, {f"level{number}": distance for number, distance in enumerate(distances, 1)})
