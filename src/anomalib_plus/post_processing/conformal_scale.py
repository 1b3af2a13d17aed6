"""Scale of normalised scores: 0.5 at the threshold, strictly increasing."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STEPS = 4.0
"""Distance of the median good score from the threshold on the normalised scale, which places it at 0.1."""


def normalize(scores: Tensor, threshold: Tensor, scale: Tensor) -> Tensor:
    """Map scores to values between 0 and 1, strictly increasing, 0.5 at the threshold; part of exported graphs.

    Below the threshold the value is ``0.5 / (1 + d)``, above it ``1 - 0.5 / (1 + log(1 + d))``, where ``d`` is the
    distance from the threshold in units of ``scale``. The logarithm keeps scores far above apart in float32. Scores of
    any shape and range; they are returned unchanged if the threshold is NaN.
    """
    steps = (scores - threshold) / scale
    distance = steps.abs()
    normalized = torch.where(steps > 0, 1 - 0.5 / (1 + distance.log1p()), 0.5 / (1 + distance))
    return torch.where(threshold.isnan(), scores, normalized)


def scale_of(threshold: Tensor, values: Tensor) -> Tensor:
    """Return a positive unit of length for scores: a fraction of the threshold's distance from the median."""
    distances = (threshold - values.median(), threshold - values.min(), threshold.abs(), torch.ones_like(threshold))
    return next(distance for distance in distances if distance > 0) / _STEPS


def to_numpy(scores: Tensor) -> NDArray[np.float64]:
    """Copy scores of any precision to NumPy, which has no bfloat16."""
    return scores.detach().cpu().double().numpy()
