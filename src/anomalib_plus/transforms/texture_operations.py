"""Augmentation of anomaly textures: a few operations per image, each image with its own choice, order and strength.

Most operations change a value regardless of its position. Each is a table of 256 entries per image and channel, a chain
of them is one table, and what they need to know of the image is its histogram, which a table transforms too.
So only the few operations that look at neighbours or mix channels touch pixels. The last table is looked up only where
the texture is pasted, and a sharpness or turn of colours that nothing but tables follows is done only there. On 8-bit
values the operations agree with ``torchvision.transforms.v2.functional``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from anomalib_plus.transforms.histogram import byte_histograms
from anomalib_plus.transforms.rows import rows_where, take, true_positions
from anomalib_plus.transforms.texture_pixels import PIXEL_OPERATIONS, POINT_OPERATIONS
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
    """Textures of which what is left to do can be done at single pixels: a table, one operation, another table."""

    pixels: Tensor
    """(B, 3, H, W), uint8."""
    before: Tensor
    """(B, 3, 256), int64, what becomes of each value of ``pixels`` before the operation."""
    late: dict[str, Tensor]
    """Textures each operation is left to do on, (B,) bool on the host; none is on two."""
    numbers: Tensor
    """(B, 2), float32, those of the operation; on the host."""
    tables: Tensor
    """(B, 3, 256), int64, what becomes of each value then."""

    def images(self) -> Tensor:
        """Finish every pixel; (B, 3, H, W), uint8."""
        pixels = self.pixels
        for name, late in self.late.items():
            rows = rows_where(late, pixels.device)
            own = _look_up(self.pixels.index_select(0, rows), self.before.index_select(0, rows))
            pixels = pixels.index_copy(0, rows, PIXEL_OPERATIONS[name](own, self.numbers[late]))
        return _look_up(pixels, self.tables)

    def at(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Finish some pixels: of textures ``rows``, at ``positions`` in the flattened plane, (N,) each.

        Returns:
            (3, N), float32 in [0, 1].
        """
        planes = rows * 3 + torch.arange(3, device=rows.device)[:, None]
        values = take(self.pixels, planes * self.pixels[0, 0].numel() + positions)
        for name, late in self.late.items():
            if rows.device.type == "cpu":
                some = true_positions(late.index_select(0, rows))
                values.index_copy_(1, some, self._late_values(name, rows[some], positions[some]))
            else:  # which would have to tell the host how many there are
                concerned = late.to(rows.device, non_blocking=True).index_select(0, rows)
                values = torch.where(concerned, self._late_values(name, rows, positions), values)
        return take(self.tables.float() / 255, planes * 256 + values)

    def _late_values(self, name: str, rows: Tensor, positions: Tensor) -> Tensor:
        """Run one operation at some pixels, (3, N), uint8."""
        planes = rows * 3 + torch.arange(3, device=rows.device)[:, None]
        height, width = self.pixels.shape[2:]

        def read(positions: Tensor) -> Tensor:
            values = take(self.pixels, planes * (height * width) + positions[..., None, :])
            return take(self.before.float(), planes * 256 + values)

        numbers = self.numbers.to(rows.device, non_blocking=True).index_select(0, rows)
        return POINT_OPERATIONS[name](read, positions, (height, width), numbers)


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
    late: dict[str, Tensor] = {}
    late_numbers = torch.zeros(len(textures), 2)
    counted = [histograms is not None] * len(textures)  # whose row of `histograms` describes it
    histograms = torch.zeros_like(identity) if histograms is None else histograms.to(device, torch.int64, copy=True)
    chains = [[plan.names[position] for position in row] for row in plan.order.tolist()]

    for step in range(plan.order.shape[1]):
        names = [chain[step] for chain in chains]
        for name, operation in PIXEL_OPERATIONS.items():
            chosen = _rows_of(name, names)
            if name in POINT_OPERATIONS:  # left for the pixels that are pasted if no later operation must know them all
                last = [row for row in chosen if VALUE_TABLES.keys() >= set(chains[row][step + 1 :])]
                if last:
                    rows = _to_device(last, device)
                    before = before.index_copy(0, rows, tables.index_select(0, rows))
                    tables = tables.index_copy(0, rows, identity[: len(last)])
                    late.setdefault(name, torch.zeros(len(textures), dtype=torch.bool))[last] = True
                    late_numbers[last] = plan.numbers[last, step].float()
                chosen = [row for row in chosen if row not in last]
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
    return AugmentedTextures(textures, before, late, late_numbers, tables)


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
