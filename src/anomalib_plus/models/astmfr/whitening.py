"""Mahalanobis distance of residuals from those of good images (``residual="whitened"``; not in the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHRINKAGE = 0.01
"""Share of the average variance in the regularised covariance; it bounds how much rare directions count."""

_SMALLEST_VARIANCE = 1e-12


def regularize(covariance: Tensor) -> Tensor:
    """Shrink a covariance (C, C) towards a multiple of the identity, so that it can be inverted.

    ``(1 - s) covariance + s v I`` with ``s = 0.01`` and the average variance ``v``, the mean of its diagonal. It has
    the same trace, and its smallest eigenvalue is at least ``s v``.
    """
    average = covariance.diagonal().mean().clamp(min=_SMALLEST_VARIANCE)
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * average * identity


class Moments:
    """Sums over vectors from which mean and covariance follow, in float64 on the CPU.

    Args:
        channels: Length C of the vectors.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, maps: Tensor) -> None:
        """Add the vector of every location of (B, C, h, w)."""
        vectors = maps.movedim(1, -1).flatten(0, -2).float()
        self.count += len(vectors)
        self.total += vectors.sum(dim=0).double().cpu()
        self.products += (vectors.T @ vectors).double().cpu()

    @property
    def mean(self) -> Tensor:
        """Mean (C,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance (C, C), divided by the number of vectors."""
        return self.products / self.count - torch.outer(self.mean, self.mean)


class Whitening(nn.Module):
    """Distance of vectors from a distribution, by a 1x1 convolution that makes its covariance the identity.

    Before :meth:`fit` it is the distance from zero. The convolution's bias and weight hold mean and covariance.

    Args:
        channels: Length C of the vectors.
    """

    weight: Tensor
    bias: Tensor
    count: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(channels)[..., None, None])
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("count", torch.tensor(0))

    def fit(self, moments: Moments) -> None:
        """Take mean and covariance of the vectors that were added to the moments, at least one."""
        factor = torch.linalg.cholesky(regularize(moments.covariance))
        identity = torch.eye(len(factor), dtype=factor.dtype)
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        self.weight.copy_(whitening[..., None, None])
        self.bias.copy_(-whitening @ moments.mean)
        self.count.fill_(moments.count)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the Mahalanobis distance of every vector of (B, C, h, w), divided by the root of C; (B, 1, h, w)."""
        return F.conv2d(maps, self.weight, self.bias).square().mean(dim=1, keepdim=True).sqrt()
