"""Our values of a paper's cells, and the table that compares them."""

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from anomalib_plus.benchmark.papers import Cell
from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.record import COSTS
from anomalib_plus.image_files import printable

_DIGITS = {"fraction": 3, "percent": 2, "millions": 1}


def our_number(cell: Cell, jobs: Sequence[Job], records: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return our value of a cell: the best variant, averaged over categories and seeds.

    A category without a value, for example without defects of a size, is left out of the mean, as in the papers.

    Returns:
        None unless all jobs of the cell have succeeded and one of them has a value.
    """
    by_key = {(job.model["variant"], job.data["category"], job.seed): records.get(job.job_id) for job in jobs}
    values: list[float] = []
    for seed, category in itertools.product(sorted({job.seed for job in jobs}), cell.categories):
        results = []
        for variant in cell.variants.values():
            record = by_key.get((title(variant), category, seed))
            if record is None or record["status"] != "ok":
                return None
            results.append(record["costs" if cell.metric in COSTS else "metrics"][cell.metric])
        values += [max(results)] if None not in results else []
    return mean(values) if values else None


def print_cells(
    shown: Sequence[Cell], numbers: Sequence[float | str | None], console: Console, preset: str | None = None
) -> None:
    """Print the paper's and our values and the differences, in the paper's unit.

    A text in place of a number is printed as it is. ``preset`` is the name of the preset that gave our values.
    """
    columns = ("row", "column", "paper", f"preset {preset}" if preset else "ours", "difference")
    table = Table(*(Column(name, overflow="fold") for name in columns), box=None)
    for cell, number in zip(shown, numbers, strict=True):
        digits, gap = _DIGITS[cell.unit], "-"
        texts = [
            value if isinstance(value, str) else "-" if value is None else f"{cell.in_unit(value):.{digits}f}"
            for value in (cell.paper, number)
        ]
        if number is not None and not isinstance(number, str) and cell.paper is not None:
            gap = f"{cell.in_unit(number - cell.paper):+.{digits}f}"
        table.add_row(*map(printable, (cell.row, cell.column, *texts, gap)))
    console.print(table)
    if preset:
        console.print(
            f"The preset {preset} is not the paper's recipe: its images, networks and trainings are smaller, so the "
            "difference does not tell whether the paper can be reproduced.",
            soft_wrap=True,
        )


def title(variant: Mapping[str, Any]) -> str | None:
    """Return the name of a row's arguments in the results; None for the full model."""
    return ", ".join(f"{key}={value}" for key, value in sorted(variant.items())) or None
