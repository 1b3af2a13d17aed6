"""Random numbers of a batch, image by image."""

from collections.abc import Sequence

import torch
from torch import Tensor


class ImageDraws:
    """One host generator per image, so that what is drawn for an image depends on its position in the batch alone.

    Args:
        count: Number of images B.
        generator: CPU generator that seeds them; torch's default one if None.
    """

    def __init__(self, count: int, generator: torch.Generator | None = None) -> None:
        seeds = torch.randint(2**62, (count,), generator=generator).tolist()
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """Draw (B, *shape) numbers between ``low`` and ``high``; float32 on the host."""
        return low + torch.stack([torch.rand(shape, generator=one) for one in self._generators]) * (high - low)

    def normal(self, *shape: int) -> Tensor:
        """Draw (B, *shape) standard normal numbers; float32 on the host."""
        return torch.stack([torch.randn(shape, generator=one) for one in self._generators])

    def sign(self, *shape: int) -> Tensor:
        """Draw (B, *shape) numbers that are -1 or 1."""
        return torch.where(self.uniform(0, 1, *shape) < 0.5, -1.0, 1.0)

    def choice(self, weights: Sequence[float], *shape: int) -> Tensor:
        """Draw (B, *shape) positions in ``weights``, int64, each with its share of them."""
        cumulative = torch.tensor(weights, dtype=torch.float64).cumsum(0)
        drawn = self.uniform(0, 1, *shape).double() * cumulative[-1]
        return torch.searchsorted(cumulative, drawn, right=True).clamp_max(len(weights) - 1)


def near(severity: float, draws: ImageDraws) -> Tensor:
    """Draw a strength (B,) in (0, 1], at most 30 % below or above ``severity``."""
    return (severity * draws.uniform(0.7, 1.3)).clamp_max(1)


def narrow(bounds: tuple[float, float], severity: float | None) -> tuple[float, float]:
    """Cut a range to a fifth of its length on either side of ``severity``, from 0 (its low end) to 1; None for all."""
    if severity is None:
        return bounds
    low, high = bounds
    length = high - low
    return low + length * max(0.0, severity - 0.2), low + length * min(1.0, severity + 0.2)


def check_severity(severity: float | None) -> None:
    """Raise ``ValueError`` unless ``severity`` lies in (0, 1] or is None."""
    if severity is not None and not 0 < severity <= 1:
        msg = f"severity must lie in (0, 1], got {severity}."
        raise ValueError(msg)
