"""The papers' printed tables, and for each of their cells what must be trained to get a number of our own.

The tables are CSV files beside ``recipes.yaml``; cells that are illegible in the paper are empty there. Figures have
rows without printed numbers, because their values are not in the papers' text.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import pandas as pd
import yaml

from anomalib_plus.benchmark.schema import PlanError

_TABLES = files("anomalib_plus.benchmark") / "paper_tables"
_AVERAGE_PREFIXES = ("avg", "average")
_SIZE_OF_UNIT = {"fraction": 1, "percent": 0.01, "millions": 1e6}

Kind = Literal["table", "figure"]


@dataclass(frozen=True)
class Cell:
    """A number of a paper and how to get it.

    Args:
        row: Name of its row.
        column: Name of its column.
        paper: The printed number as our records have it, a percentage as a fraction for one; None if the paper has none
            or it is illegible.
        metric: Its name among the metrics or costs of our records.
        variants: Arguments of the model; of several, the largest result counts.
        categories: The result is the mean over these.
        unit: What the paper prints: ``percent``, ``fraction`` or ``millions``.
    """

    row: str
    column: str
    paper: float | None
    metric: str
    variants: tuple[dict[str, Any], ...]
    categories: tuple[str, ...]
    unit: str

    def in_unit(self, value: float) -> float:
        """A value of our records in the paper's unit."""
        return value / _SIZE_OF_UNIT[self.unit]


@cache
def load_recipes() -> dict[str, Any]:
    """The content of ``recipes.yaml``: ``data``, ``groups`` and one entry per paper."""
    return yaml.safe_load((_TABLES / "recipes.yaml").read_text())


def paper_names() -> list[str]:
    """Papers with tables that can be reproduced."""
    return [name for name in load_recipes() if name not in ("data", "groups")]


def load_recipe(paper: str, number: int, kind: Kind = "table") -> dict[str, Any]:
    """How a table or figure is made: the paper's defaults with what the table adds.

    Raises:
        PlanError: If there is no such paper, table or figure.
    """
    if paper not in paper_names():
        msg = f"There is no paper {paper!r}; there are {', '.join(paper_names())}."
        raise PlanError(msg)
    recipe = load_recipes()[paper]
    entries = recipe.get(f"{kind}s", {})
    if number not in entries:
        known = f"the {kind}s are {', '.join(map(str, entries))}" if entries else f"there are no such {kind}s"
        msg = f"{kind.capitalize()} {number} of {paper} has no numbers that a training gives; {known}."
        raise PlanError(msg)
    defaults = {"data": "mvtec", "image_size": [256, 256], "init_args": {}, "averages": {}, "not_run": {}}
    general = {key: value for key, value in recipe.items() if key not in ("tables", "figures")}
    return defaults | general | entries[number]


def load_table(paper: str, number: int) -> pd.DataFrame:
    """A printed table as a frame of text and numbers.

    Raises:
        PlanError: If there is none.
    """
    names = [file.name for file in _TABLES.iterdir() if file.name.endswith(".csv")]
    stem = f"{paper}_table{number}"
    matching = sorted((name for name in names if name.split(".")[0] == stem or name.startswith(f"{stem}_")), key=len)
    if not matching:
        msg = f"There is no table {number} of {paper}."
        raise PlanError(msg)
    return pd.read_csv(str(_TABLES / matching[0]), dtype=str, keep_default_na=False)


def category_name(text: str) -> str:
    """A category as its folder is called: ``Metal nut`` becomes ``metal_nut``."""
    return text.strip().lower().replace(" ", "_")


def cells(paper: str, number: int, kind: Kind = "table") -> list[Cell]:
    """All cells of a table or figure that are the paper's own results."""
    recipe = load_recipe(paper, number, kind)
    if kind == "figure":
        names = [*recipe.get("columns", ()), *recipe.get("category_columns", ())]
        table = pd.DataFrame("", index=range(len(recipe["rows"])), columns=names)
    else:
        table = load_table(paper, number)
    layout = _by_category if recipe.get("category_column") else _by_group if "groups" in recipe else _by_row
    return list(layout(recipe, table))


def _by_category(recipe: Mapping[str, Any], table: pd.DataFrame) -> Iterator[Cell]:
    names = [str(name) for name in table[recipe["category_column"]]]
    categories = tuple(category_name(name) for name in names if not name.lower().startswith(_AVERAGE_PREFIXES))
    for position, name in enumerate(names):
        is_average = name.lower().startswith(_AVERAGE_PREFIXES)
        averaged = tuple(recipe["averages"].get(name, categories))
        for column, spec in recipe["columns"].items():
            own = averaged if is_average else (category_name(name),)
            yield _cell(recipe, name, column, table[column].iloc[position], {}, spec, own)


def _by_row(recipe: Mapping[str, Any], table: pd.DataFrame) -> Iterator[Cell]:
    for position, arguments in enumerate(recipe["rows"]):
        name = f"{position + 1}: {', '.join(f'{k}={v}' for k, v in arguments.items()) or 'full'}"
        for column in recipe.get("category_columns", ()):
            spec, own = {"metric": recipe["metric"]}, (category_name(column),)
            yield _cell(recipe, name, column, table[column].iloc[position], arguments, spec, own)
        for column, spec in recipe.get("columns", {}).items():
            yield _cell(recipe, name, column, table[column].iloc[position], arguments, spec, recipe["categories"])


def _by_group(recipe: Mapping[str, Any], table: pd.DataFrame) -> Iterator[Cell]:
    for name, categories in recipe["groups"].items():
        row = table[table[recipe["group_column"]] == name].iloc[0]
        for column, spec in recipe["columns"].items():
            yield _cell(recipe, name, column, row[column], {}, spec, categories)


def _cell(
    recipe: Mapping[str, Any],
    row: str,
    column: str,
    text: str,
    arguments: Mapping[str, Any],
    spec: Mapping[str, Any],
    categories: Sequence[str],
) -> Cell:
    choices = spec.get("best_of", [spec.get("init_args", {})])
    variants = tuple({**recipe["init_args"], **arguments, **choice} for choice in choices)
    unit = spec.get("unit", recipe["unit"])
    return Cell(row, column, _number(text, unit), spec["metric"], variants, tuple(categories), unit)


def _number(text: str, unit: str) -> float | None:
    try:
        return float(text) * _SIZE_OF_UNIT[unit]
    except ValueError:
        return None
