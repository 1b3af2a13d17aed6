"""Focal loss of a binary segmentation, from logits."""

import math

import torch.nn.functional as F
from torch import Tensor


def binary_focal_loss(
    logits: Tensor,
    mask: Tensor,
    gamma: float = 2.0,
    alpha: float | None = None,
    smallest_probability: float | None = None,
) -> Tensor:
    """Mean over all elements of ``-(1 - p)^gamma * log(p)`` with ``p`` the probability of the true class.

    Normal pixels count like anomalous ones unless ``alpha`` is given. (kornia's focal loss divides by the number of
    classes too, and with ``alpha=1``, as in anomalib's ``DraemLoss``, it ignores all normal pixels.)

    Args:
        logits: Of an anomaly, any shape; ``sigmoid(logits)`` is its probability.
        mask: Same shape, 1 on an anomaly, else 0.
        gamma: Focusing exponent; 0 gives the cross entropy.
        alpha: Weight of the anomalous class in [0, 1], ``1 - alpha`` being that of the normal one; None for 1 and 1.
        smallest_probability: Lower bound of ``p`` inside the logarithm; None for none.

    Returns:
        A scalar.
    """
    margin = logits * (2 * mask - 1)
    log_probability = F.logsigmoid(margin)
    if smallest_probability is not None:
        log_probability = log_probability.clamp_min(math.log(smallest_probability))
    # Not a power of the probability, which has an infinite slope at 0 if gamma is between 0 and 1.
    losses = -(gamma * F.logsigmoid(-margin)).exp() * log_probability
    if alpha is not None:
        losses = losses * (1 - alpha + (2 * alpha - 1) * mask)
    return losses.mean()
