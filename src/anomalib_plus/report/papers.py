"""What the papers report for their full models, taken from the tables that the benchmark brings along."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .tables import PaperFigures

_TABLES = "anomalib_plus.benchmark.papers"


def paper_figures() -> PaperFigures:
    """Cells of one category for a model as published; the first of a paper's tables that has a figure gives it.

    Rows of ablations, cells that are the best of several trainings, and tables of models that are not installed are
    left out. Without the benchmark's tables there is nothing.
    """
    try:
        papers = import_module(_TABLES)
    except ModuleNotFoundError:
        return {}
    figures: dict[tuple[str, str, str], float] = {}
    for paper in papers.paper_names():
        recipe = papers.load_recipes()[paper]
        module, _, name = recipe["class_path"].rpartition(".")
        model = getattr(import_module(module), name, None)
        if model is None:
            continue
        defaults = {key: parameter.default for key, parameter in inspect.signature(model).parameters.items()}
        for number in recipe["tables"]:
            table = papers.load_recipe(paper, number)
            if "rows" in table:  # an ablation, whose full model need not agree with the tables of results
                continue
            usual = defaults | table["init_args"]
            for cell in papers.cells(paper, number):
                if cell.paper is not None and len(cell.categories) == 1 and _is_full_model(cell.variants, usual):
                    figures.setdefault((name, cell.categories[0], cell.metric), cell.paper)
    return figures


def _is_full_model(variants: tuple[Mapping[str, Any], ...], usual: Mapping[str, Any]) -> bool:
    return len(variants) == 1 and all(usual.get(key) == value for key, value in variants[0].items())
