"""Texture operations that change a value regardless of its position, as tables of what becomes of the 256 values."""

from collections.abc import Callable

import torch
from torch import Tensor

# Tables from the value alone: (256,) levels, (N, 1) numbers -> (N, 256).


def _solarize(levels: Tensor, threshold: Tensor, coin: Tensor) -> Tensor:
    """Invert the values from ``threshold`` on, where the coin, uniform in [0, 1), shows less than a half."""
    return torch.where((levels >= threshold) & (coin < 0.5), 255 - levels, levels)


def _posterize(levels: Tensor, bits: Tensor, _: Tensor) -> Tensor:
    step = 2 ** (8 - bits.floor())
    return (levels / step).floor() * step


def _brightness(levels: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    return (levels * factor + shift).clamp(0, 255)


def _invert(levels: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return 255 - levels


VALUE_TABLES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "solarize": _solarize,
    "posterize": _posterize,
    "brightness": _brightness,
    "invert": _invert,
}


# Tables from the histogram: (B, 3, 256) counts, (B, 1, 1) number -> (B, 3, 256).


def _equalize(histogram: Tensor, _: Tensor) -> Tensor:
    """Pillow's integer form: the brightest occupied level does not count."""
    levels = torch.arange(256, device=histogram.device)
    at_or_below = histogram.cumsum(2)
    total = at_or_below[..., -1:]
    brightest = (at_or_below < total).sum(2, keepdim=True)
    step = (total - histogram.gather(2, brightest)) // 255
    table = (at_or_below - histogram + step // 2) // step.clamp_min(1)
    return torch.where(step > 0, table.clamp_max(255), levels)


def _autocontrast(histogram: Tensor, cutoff: Tensor) -> Tensor:
    """Stretch to the full range after discarding ``cutoff`` percent of the pixels at either end."""
    levels = torch.arange(256, device=histogram.device)
    at_or_below = histogram.cumsum(2)
    total = at_or_below[..., -1:]
    discarded = (total * cutoff / 100).floor()
    low = (at_or_below <= discarded).sum(2, keepdim=True)
    high = (total - at_or_below + histogram > discarded).sum(2, keepdim=True) - 1
    stretched = (levels - low) / ((high - low).clamp_min(1) * (1 / 255))
    return torch.where(high > low, stretched.clamp(0, 255), levels.float())


def _contrast(histogram: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from the mean grey level, or towards it."""
    levels = torch.arange(256, device=histogram.device)
    luma = torch.tensor([0.2989, 0.587, 0.114]).to(histogram.device, non_blocking=True)[:, None]
    mean = (histogram * levels * luma).sum((1, 2)) / histogram[:, 0].sum(1)
    return (levels * factor + mean[:, None, None] * (1 - factor)).clamp(0, 255)


HISTOGRAM_TABLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "equalize": _equalize,
    "autocontrast": _autocontrast,
    "contrast": _contrast,
}
