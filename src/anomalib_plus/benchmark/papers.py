"""Printed tables of the papers, and the trainings that reproduce each cell.

The tables are CSV files beside ``recipes.yaml``; a cell that is illegible in the paper is empty. Figures and variants
have rows without printed numbers.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.files import replace_file

_TABLES = files("anomalib_plus.benchmark") / "paper_tables"
_AVERAGE_PREFIXES = ("avg", "average")
_SIZE_OF_UNIT = {"fraction": 1, "percent": 0.01, "millions": 1e6}
_DEFAULTS: Mapping[str, Any] = {
    "data": "mvtec",
    "image_size": [256, 256],
    "init_args": {},
    "averages": {},
    "not_run": {},
    "printed_init_args": {},
    "printed_trainer": {},
}
PUBLISHED_FILE = "published.json"
"""File in a results folder with the papers' numbers for its models."""

Kind = Literal["table", "figure", "variant"]
KINDS: tuple[Kind, ...] = ("table", "figure", "variant")


@dataclass(frozen=True)
class Cell:
    """A number of a paper and the trainings that reproduce it.

    Args:
        row: Name of its row.
        column: Name of its column.
        paper: The printed number in the unit of the records (a percentage as a fraction); None if it is missing or
            illegible.
        metric: Name of the metric or cost in the records.
        variants: Model arguments by name; the largest result of several counts.
        categories: Categories over which the result is averaged.
        unit: Unit of the printed number: ``percent``, ``fraction`` or ``millions``.
    """

    row: str
    column: str
    paper: float | None
    metric: str
    variants: Mapping[str, dict[str, Any]]
    categories: tuple[str, ...]
    unit: str

    def in_unit(self, value: float) -> float:
        """Convert a value of the records to the paper's unit."""
        return value / _SIZE_OF_UNIT[self.unit]


@cache
def load_recipes() -> dict[str, Any]:
    """Return the content of ``recipes.yaml``: ``data``, ``groups`` and one entry per paper."""
    return yaml.safe_load((_TABLES / "recipes.yaml").read_text())


def paper_names() -> list[str]:
    """Return the papers with tables that can be reproduced."""
    return [name for name in load_recipes() if name not in ("data", "groups")]


def load_recipe(paper: str, name: int | str, kind: Kind = "table") -> dict[str, Any]:
    """Return the recipe of a table, figure or variant: the paper's defaults, updated by the entry.

    Raises:
        PlanError: If the paper has no such table, figure or variant.
    """
    recipe = load_recipes()[paper]
    entries = recipe.get(f"{kind}s", {})
    if name not in entries:
        known = f"the {kind}s are {', '.join(map(str, entries))}" if entries else f"it has no {kind}s"
        msg = f"{kind.capitalize()} {name} of {paper} cannot be reproduced by a training; {known}."
        raise PlanError(msg)
    general = {key: value for key, value in recipe.items() if key not in {f"{each}s" for each in KINDS}}
    entry = entries[name]
    if kind == "variant":
        columns = {metric: {"metric": metric} for metric in general["metrics"]}
        entry = {**entry, "init_args": {}, "rows": {name: entry["init_args"]}, "columns": columns}
    return {**_DEFAULTS, **general, **entry}


def load_table(paper: str, number: int | str) -> list[dict[str, str]]:
    """Return the rows of a printed table by column."""
    stem = f"{paper}_table{number}"
    names = [file.name for file in _TABLES.iterdir() if file.name.startswith((f"{stem}.", f"{stem}_"))]
    return list(csv.DictReader((_TABLES / min(names, key=len)).read_text("utf-8").splitlines()))


def category_name(text: str) -> str:
    """Return the folder name of a category: ``Metal nut`` becomes ``metal_nut``."""
    return text.strip().lower().replace(" ", "_")


def cells(paper: str, name: int | str, kind: Kind = "table") -> list[Cell]:
    """Return all cells of a table, figure or variant that are the paper's own results."""
    recipe = load_recipe(paper, name, kind)
    if kind == "table":
        table = load_table(paper, name)
    else:
        names = [*recipe.get("columns", ()), *recipe.get("category_columns", ())]
        table = [dict.fromkeys(names, "") for _ in recipe["rows"]]
    layout = _by_category if recipe.get("category_column") else _by_group if "groups" in recipe else _by_row
    return list(layout(recipe, table))


def _by_category(recipe: Mapping[str, Any], table: Sequence[Mapping[str, str]]) -> Iterator[Cell]:
    names = [row[recipe["category_column"]] for row in table]
    categories = [category_name(name) for name in names if not name.lower().startswith(_AVERAGE_PREFIXES)]
    for name, row in zip(names, table, strict=True):
        is_average = name.lower().startswith(_AVERAGE_PREFIXES)
        own = recipe["averages"].get(name, categories) if is_average else [category_name(name)]
        for column, spec in recipe["columns"].items():
            yield _cell(recipe, name, column, row[column], spec, own)


def _by_row(recipe: Mapping[str, Any], table: Sequence[Mapping[str, str]]) -> Iterator[Cell]:
    for (name, arguments), row in zip(recipe["rows"].items(), table, strict=True):
        own = {"name": name, "init_args": arguments}
        for column in recipe.get("category_columns", ()):
            spec = {"metric": recipe["metric"], **own}
            yield _cell(recipe, name, column, row[column], spec, (category_name(column),))
        for column, spec in recipe.get("columns", {}).items():
            yield _cell(recipe, name, column, row[column], {**spec, **own}, recipe["categories"])


def _by_group(recipe: Mapping[str, Any], table: Sequence[Mapping[str, str]]) -> Iterator[Cell]:
    for name, categories in recipe["groups"].items():
        row = next(row for row in table if row[recipe["group_column"]] == name)
        for column, spec in recipe["columns"].items():
            yield _cell(recipe, name, column, row[column], spec, categories)


def _cell(
    recipe: Mapping[str, Any], row: str, column: str, text: str, spec: Mapping[str, Any], categories: Sequence[str]
) -> Cell:
    choices = spec.get("best_of", {spec.get("name", "full"): spec.get("init_args", {})})
    variants = {name: {**recipe["init_args"], **choice} for name, choice in choices.items()}
    unit = spec.get("unit", recipe["unit"])
    return Cell(row, column, _number(text, unit), spec["metric"], variants, tuple(categories), unit)


def _number(text: str, unit: str) -> float | None:
    try:
        return float(text) * _SIZE_OF_UNIT[unit]
    except ValueError:
        return None


def published(class_paths: Iterable[str]) -> list[dict[str, Any]]:
    """Return the printed results of full models: ``model`` (its class path), ``category``, ``metric`` and ``value``.

    The first table with a number counts. Ablations and cells that are the best of several trainings are left out,
    because they may differ from the tables of results.
    """
    wanted = set(class_paths)
    found: dict[tuple[str, str, str], float] = {}
    tables = [(paper, number) for paper in paper_names() for number in load_recipes()[paper]["tables"]]
    for paper, number in tables:
        recipe = load_recipe(paper, number)
        if recipe["class_path"] not in wanted or "rows" in recipe:
            continue
        for cell in cells(paper, number):
            is_full = list(cell.variants.values()) == [recipe["init_args"]]
            if is_full and cell.paper is not None and len(cell.categories) == 1:
                found.setdefault((recipe["class_path"], cell.categories[0], cell.metric), cell.paper)
    return [
        {"model": model, "category": category, "metric": metric, "value": value}
        for (model, category, metric), value in found.items()
    ]


def save_published(folder: Path, class_paths: Iterable[str]) -> None:
    """Write the papers' numbers for models into a results folder, for the report."""
    replace_file(folder / PUBLISHED_FILE, json.dumps(published(class_paths), indent=1))
