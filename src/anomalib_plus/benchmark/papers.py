"""The papers' printed tables, and for each of their cells the trainings that give a number of our own.

The tables are CSV files beside ``recipes.yaml``; cells that are illegible in the paper are empty there. Figures and
variants have rows without printed numbers.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import yaml

from anomalib_plus.benchmark.schema import PlanError

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
"""File in a folder of results with the numbers of the papers of its models."""

Kind = Literal["table", "figure", "variant"]
KINDS: tuple[Kind, ...] = ("table", "figure", "variant")


@dataclass(frozen=True)
class Cell:
    """A number of a paper and how to get it.

    Args:
        row: Name of its row.
        column: Name of its column.
        paper: The printed number as our records have it, a percentage as a fraction for one; None if the paper has none
            or it is illegible.
        metric: Its name among the metrics or costs of our records.
        variants: Arguments of the model by name; of several, the largest result counts.
        categories: The result is the mean over these.
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
        """Return a value of our records in the paper's unit."""
        return value / _SIZE_OF_UNIT[self.unit]


@cache
def load_recipes() -> dict[str, Any]:
    """Return the content of ``recipes.yaml``: ``data``, ``groups`` and one entry per paper."""
    return yaml.safe_load((_TABLES / "recipes.yaml").read_text())


def paper_names() -> list[str]:
    """Return the papers with tables that can be reproduced."""
    return [name for name in load_recipes() if name not in ("data", "groups")]


def load_recipe(paper: str, name: int | str, kind: Kind = "table") -> dict[str, Any]:
    """Return how a table, figure or variant is made: the paper's defaults with the entry's own keys.

    Raises:
        PlanError: If there is no such paper, table, figure or variant.
    """
    if paper not in paper_names():
        msg = f"There is no paper {paper!r}; there are {', '.join(paper_names())}."
        raise PlanError(msg)
    recipe = load_recipes()[paper]
    entries = recipe.get(f"{kind}s", {})
    if name not in entries:
        known = f"the {kind}s are {', '.join(map(str, entries))}" if entries else f"there are no such {kind}s"
        msg = f"{kind.capitalize()} {name} of {paper} has no numbers that a training gives; {known}."
        raise PlanError(msg)
    general = {key: value for key, value in recipe.items() if key not in {f"{each}s" for each in KINDS}}
    entry = entries[name]
    if kind == "variant":
        columns = {metric: {"metric": metric} for metric in general["metrics"]}
        entry = {**entry, "init_args": {}, "rows": {name: entry["init_args"]}, "columns": columns}
    return {**_DEFAULTS, **general, **entry}


def load_table(paper: str, number: int | str) -> list[dict[str, str]]:
    """Return the rows of a printed table, each with the texts of its columns.

    Raises:
        PlanError: If there is none.
    """
    names = [file.name for file in _TABLES.iterdir() if file.name.endswith(".csv")]
    stem = f"{paper}_table{number}"
    matching = sorted((name for name in names if name.split(".")[0] == stem or name.startswith(f"{stem}_")), key=len)
    if not matching:
        msg = f"There is no table {number} of {paper}."
        raise PlanError(msg)
    return list(csv.DictReader((_TABLES / matching[0]).read_text("utf-8").splitlines()))


def category_name(text: str) -> str:
    """Return a category as its folder is called: ``Metal nut`` becomes ``metal_nut``."""
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
    categories = tuple(category_name(name) for name in names if not name.lower().startswith(_AVERAGE_PREFIXES))
    for name, row in zip(names, table, strict=True):
        is_average = name.lower().startswith(_AVERAGE_PREFIXES)
        averaged = tuple(recipe["averages"].get(name, categories))
        for column, spec in recipe["columns"].items():
            own = averaged if is_average else (category_name(name),)
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

    Of several tables, the first that has a number gives it. Rows of ablations and cells that are the best of several
    trainings are left out, because they need not agree with the tables of results.
    """
    wanted = set(class_paths)
    found: dict[tuple[str, str, str], float] = {}
    for paper in paper_names():
        class_path = load_recipes()[paper]["class_path"]
        for number in load_recipes()[paper]["tables"] if class_path in wanted else ():
            recipe = load_recipe(paper, number)
            for cell in cells(paper, number) if "rows" not in recipe else ():
                is_full = list(cell.variants.values()) == [recipe["init_args"]]
                if is_full and cell.paper is not None and len(cell.categories) == 1:
                    found.setdefault((class_path, cell.categories[0], cell.metric), cell.paper)
    return [
        {"model": model, "category": category, "metric": metric, "value": value}
        for (model, category, metric), value in found.items()
    ]


def save_published(folder: Path, class_paths: Iterable[str]) -> None:
    """Write the papers' numbers for models into a folder of results, where the report finds them."""
    unfinished = folder / f".{PUBLISHED_FILE}.{uuid4().hex}"  # another sweep may write it too
    unfinished.write_text(json.dumps(published(class_paths), indent=1))
    unfinished.replace(folder / PUBLISHED_FILE)
