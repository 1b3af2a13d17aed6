"""Augmentation of anomaly textures: a few operations per image, each image with its own choice, order and strength.

Most operations change a value regardless of its place. Each of those is a table of 256 entries per image and channel,
a chain of them is one table, and what they need to know of the image is its histogram, which a table transforms too.
So only the few operations that look at neighbours or mix channels touch pixels, and the last table is looked up only
where the texture is pasted. On 8-bit values the operations agree with ``torchvision.transforms.v2.functional``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2

from anomalib_plus.transforms.histogram import byte_histograms
from anomalib_plus.transforms.rotation import rotate_where
from anomalib_plus.transforms.rows import take, true_positions
from anomalib_plus.transforms.texture_tables import HISTOGRAM_TABLES, VALUE_TABLES

_UNUSED = (0.0, 0.0)

# Ranges of the two numbers of each operation, uniform draws. "draem": DRAEM's imgaug operations that
# FEAR (section 3) names. "anomalib": those of anomalib's PerlinAnomalyGenerator, which RB-AE (section 3) names.
OPERATION_SETS: dict[str, dict[str, tuple[tuple[float, float], tuple[float, float]]]] = {
    "draem": {
        "sharpness": ((0, 3), _UNUSED),
        "equalize": (_UNUSED, _UNUSED),
        "solarize": ((32, 128), (0, 1)),
        "posterize": ((1, 9), _UNUSED),
        "autocontrast": ((0, 20), _UNUSED),
        "brightness": ((0.8, 1.2), (-30, 30)),
    },
    "anomalib": {
        "contrast": ((0.5, 2), _UNUSED),
        "brightness": ((0.8, 1.2), _UNUSED),
        "sharpness": ((2, 2), _UNUSED),
        "hue_saturation": ((-50 / 360, 50 / 360), (0.5, 1.5)),
        "solarize": ((32, 128), _UNUSED),
        "posterize": ((4, 4), _UNUSED),
        "invert": (_UNUSED, _UNUSED),
        "auto_augment": ((0, 2**31), _UNUSED),
        "equalize": (_UNUSED, _UNUSED),
        "rotation": ((-45, 45), _UNUSED),
    },
}


class OperationPlan(NamedTuple):
    """Operations on each texture, in order; host tensors."""

    names: tuple[str, ...]
    order: Tensor
    """(B, K) int64 positions in ``names``, distinct within a row."""
    numbers: Tensor
    """(B, K, 2) float64, the two numbers of each operation."""

    def chosen(self, name: str) -> Tensor:
        """Return where in ``order`` an operation stands; (B, K) bool."""
        return self.order == self.names.index(name)


def draw_operations(
    operation_set: str, count: int, num_operations: int, generator: torch.Generator | None = None
) -> OperationPlan:
    """Draw ``num_operations`` distinct operations for each of ``count`` textures, all orders equally likely."""
    ranges = OPERATION_SETS[operation_set]
    order = torch.rand(count, len(ranges), generator=generator).argsort(1)[:, :num_operations]
    low, high = torch.tensor(list(ranges.values()), dtype=torch.float64).unbind(-1)
    numbers = torch.rand(count, num_operations, 2, generator=generator, dtype=torch.float64)
    return OperationPlan(tuple(ranges), order, low[order] + numbers * (high - low)[order])


class AugmentedTextures(NamedTuple):
    """Textures of which what is left to do can be done at single pixels: two tables and a sharpness between them."""

    pixels: Tensor
    """(B, 3, H, W), uint8."""
    before: Tensor
    """(B, 3, 256), int64, what becomes of each value of ``pixels`` before it is sharpened."""
    factors: Tensor
    """(B,), float32, on the host; 1 leaves a texture as it is."""
    tables: Tensor
    """(B, 3, 256), int64, what becomes of each value then."""

    def images(self) -> Tensor:
        """Finish every pixel; (B, 3, H, W), uint8."""
        pixels, late = self.pixels, (self.factors != 1).nonzero().flatten()
        if len(late):
            rows = late.to(pixels.device, non_blocking=True)
            own = _look_up(pixels.index_select(0, rows), self.before.index_select(0, rows))
            pixels = pixels.index_copy(0, rows, _sharpness(own, self.factors[late, None]))
        return _look_up(pixels, self.tables)

    def at(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Finish some pixels: of textures ``rows``, at ``positions`` in the flattened plane, (N,) each.

        Returns:
            (3, N), float32 in [0, 1].
        """
        planes = rows * 3 + torch.arange(3, device=rows.device)[:, None]
        values = take(self.pixels, planes * self.pixels[0, 0].numel() + positions)
        if (self.factors != 1).any():
            if rows.device.type == "cpu":  # an accelerator would have to tell the host how many there are
                late = true_positions((self.factors != 1).index_select(0, rows))
                values = values.index_copy(1, late, self._sharpened(rows[late], positions[late]))
            else:
                values = self._sharpened(rows, positions)
        return take(self.tables.float() / 255, planes * 256 + values)

    def _sharpened(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Do what :func:`_sharpness` does at some pixels; (3, N), uint8."""
        height, width = self.pixels.shape[2:]
        down, across = positions // width, positions % width
        inner = (down > 0) & (down < height - 1) & (across > 0) & (across < width - 1)
        step = torch.arange(-1, 2, device=rows.device)
        offsets = (step[:, None] * width + step).view(9, 1)
        planes = rows * 3 + torch.arange(3, device=rows.device)[:, None]
        # On the rim nine times the pixel itself, whose smoothing and sharpening leave it as it is.
        places = planes * (height * width) + (positions + inner * offsets)[:, None]
        values = take(self.before.float(), planes * 256 + take(self.pixels, places))
        centre = values[4]
        smooth = values.sum(0).add_(centre, alpha=4).mul_(1 / 13).round_()
        factor = self.factors.to(rows.device, non_blocking=True).index_select(0, rows)
        return smooth.lerp_(centre, factor).short().clamp_(0, 255).byte()


def apply_operations(textures: Tensor, plan: OperationPlan, histograms: Tensor | None = None) -> AugmentedTextures:
    """Run each texture through its own operations.

    Args:
        textures: (B, 3, H, W), uint8; may be overwritten.
        plan: One row per texture.
        histograms: (B, 3, 256) int64, those of the textures if they are known; left as they are.
    """
    device = textures.device
    numbers = plan.numbers.float().to(device, non_blocking=True)[..., None, None]
    value_tables = _value_tables(plan, device)
    identity = torch.arange(256, device=device).expand(*textures.shape[:2], 256)
    before = tables = identity
    factors = torch.ones(len(textures))
    counted = [histograms is not None] * len(textures)  # whose row of `histograms` describes it
    histograms = torch.zeros_like(identity) if histograms is None else histograms.to(device, torch.int64, copy=True)
    chains = [[plan.names[position] for position in row] for row in plan.order.tolist()]

    for step in range(plan.order.shape[1]):
        names = [chain[step] for chain in chains]
        for name, operation in _PIXEL_OPERATIONS.items():
            chosen = _rows_of(name, names)
            if name == "sharpness":  # left for the pixels that are pasted if no later operation must know all pixels
                late = [row for row in chosen if VALUE_TABLES.keys() >= set(chains[row][step + 1 :])]
                if late:
                    rows = _to_device(late, device)
                    before = before.index_copy(0, rows, tables.index_select(0, rows))
                    tables = tables.index_copy(0, rows, identity[: len(late)])
                    factors[late] = plan.numbers[late, step, 0].float()
                chosen = [row for row in chosen if row not in late]
            if chosen:
                rows = _to_device(chosen, device)
                own = textures.index_select(0, rows)
                own = own if step == 0 else _look_up(own, tables.index_select(0, rows))
                for row, after in zip(chosen, operation(own, plan.numbers[chosen, step]), strict=True):
                    textures[row] = after
                    counted[row] = False
                tables = tables.index_copy(0, rows, identity[: len(chosen)])

        step_tables = value_tables[:, step, None].expand(-1, 3, -1)
        for name, table_of in HISTOGRAM_TABLES.items():
            chosen = _rows_of(name, names)
            if chosen:
                rows = _to_device(chosen, device)
                uncounted = [row for row in chosen if not counted[row]]
                if uncounted:
                    recount = _to_device(uncounted, device)
                    histograms.index_copy_(0, recount, byte_histograms(textures.index_select(0, recount)))
                    counted = [known or row in uncounted for row, known in enumerate(counted)]
                histogram = histograms.index_select(0, rows)
                if step > 0:
                    own_tables = tables.index_select(0, rows)
                    histogram = torch.zeros_like(histogram).scatter_add_(2, own_tables, histogram)
                table = table_of(histogram, numbers[rows, step, 0]).long()
                step_tables = step_tables.index_copy(0, rows, table.expand(-1, 3, -1))
        tables = step_tables.gather(2, tables)
    return AugmentedTextures(textures, before, factors, tables)


def _rows_of(name: str, names: list[str]) -> list[int]:
    return [row for row, own_name in enumerate(names) if own_name == name]


def _to_device(rows: list[int], device: torch.device) -> Tensor:
    return torch.tensor(rows).to(device, non_blocking=True)


def _value_tables(plan: OperationPlan, device: torch.device) -> Tensor:
    """Tables (B, K, 256) of the operations that need nothing but the value; the identity for all others."""
    levels = torch.arange(256)
    tables = levels.repeat(*plan.order.shape, 1)
    for name, table_of in VALUE_TABLES.items():
        if name in plan.names:
            chosen = plan.chosen(name)
            tables[chosen] = table_of(levels, *plan.numbers[chosen].float()[..., None].unbind(1)).long()
    return tables.to(device, non_blocking=True)


def _look_up(images: Tensor, tables: Tensor) -> Tensor:
    return tables.byte().gather(2, images.flatten(2).long()).view(images.shape)


# Operations on pixels: (B, 3, H, W) uint8, which may be overwritten, host numbers (B, 2) -> (B, 3, H, W) uint8.


def _sharpness(images: Tensor, numbers: Tensor) -> Tensor:
    """Blend with (factor < 1) or away from (factor > 1) a 3x3 smoothing whose centre weighs 5 and whose rim 1.

    Sums of slices, because a depth-wise convolution is several times slower on a CPU.
    """
    factor = numbers[:, 0].float().to(images.device, non_blocking=True)[:, None, None, None]
    values = images.short()
    centre = values[..., 1:-1, 1:-1]
    rows = (values[..., :-2, :] + values[..., 1:-1, :]).add_(values[..., 2:, :])
    total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(centre, alpha=4)
    smooth = total.float().mul_(1 / 13).round_()  # never at a tie, because 13 is odd
    sharp = smooth.lerp_(centre.float(), factor).short().clamp_(0, 255)
    images[..., 1:-1, 1:-1] = sharp  # directly, the conversion is not vectorised and takes five times as long
    return images


def _rotation(images: Tensor, numbers: Tensor) -> Tensor:
    everyone = torch.ones(len(images), dtype=torch.bool)
    return rotate_where(everyone, images.float(), numbers[:, 0], highest=255).round_().byte()


def _hue_saturation(images: Tensor, numbers: Tensor) -> Tensor:
    """Blend with grey or away from it, then turn the colour circle; in HSV terms, value and chroma stay."""
    shift, saturation = numbers.float().to(images.device, non_blocking=True)[..., None, None, None].unbind(1)
    values = images.float()
    red, green, blue = values.unbind(1)
    grey = (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_().unsqueeze(1)
    values = grey.lerp(values, saturation).clamp_(0, 255).floor_()

    red, green, blue = values.unbind(1)
    low, high = values.amin(1), values.amax(1)
    chroma = (high - low).clamp_min_(1)
    hue = torch.where(high == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma)
    hue = torch.where(high == red, (green - blue) / chroma, hue).unsqueeze_(1)
    distance = (hue + shift * 6 + torch.tensor([5, 3, 1]).to(images.device, non_blocking=True)[:, None, None]) % 6
    share = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return (high[:, None] - (high - low)[:, None] * share).round_().byte()


def _auto_augment(images: Tensor, numbers: Tensor) -> Tensor:
    """One ImageNet policy per image; torchvision draws it from torch's default generator, which is put back."""
    augmented = []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, numbers[:, 0].long().tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            augmented.append(_AUTO_AUGMENT(image))
    return torch.stack(augmented)


_AUTO_AUGMENT = v2.AutoAugment()

_PIXEL_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sharpness": _sharpness,
    "rotation": _rotation,
    "hue_saturation": _hue_saturation,
    "auto_augment": _auto_augment,
}
