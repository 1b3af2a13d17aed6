"""``anomalib-plus selection``: tell whether synthetic defects choose the models that real defects would.

It reads the results of ``anomalib-plus benchmark --synthetic-validation``, where each trained model was evaluated on
synthetic defects (validation) and on real ones (test). The regret of a choice is the best model's test metric minus
that of the chosen model. Choices are the model with the best validation metric, and always the same model.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from anomalib_plus.benchmark.protocol import METRICS
from anomalib_plus.benchmark.store import FILE, ResultStore


class Selection(NamedTuple):
    """Choice of a model on one data set and seed."""

    data: str
    seed: int
    correlation: float
    """Spearman's rank correlation of the models' validation and test metrics; NaN if one is constant."""
    chosen: str
    """Names of the models with the best validation metric."""
    regret: float
    """Of the model chosen by the validation, on average over ties."""
    fixed_regrets: dict[str, float]
    """Of each model, chosen always."""


def select(values: Mapping[str, tuple[float, float]], data: str = "", seed: int = 0) -> Selection:
    """Choose a model by its validation metric.

    Args:
        values: Validation and test metric of each model, higher is better; at least two models.
        data: Name of the data set.
        seed: Seed of the trainings.
    """
    validation, test = (np.array(column) for column in zip(*values.values(), strict=True))
    is_constant = np.ptp(validation) == 0 or np.ptp(test) == 0
    correlation = float("nan") if is_constant else float(spearmanr(validation, test).statistic)
    regrets = test.max() - test
    best = validation == validation.max()
    chosen = [name for name, is_best in zip(values, best, strict=True) if is_best]
    fixed = dict(zip(values, regrets.tolist(), strict=True))
    return Selection(data, seed, correlation, ", ".join(chosen), float(regrets[best].mean()), fixed)


def read_selections(records: Sequence[Mapping[str, Any]], metric: str) -> list[Selection]:
    """Choose a model for each data set and seed of finished jobs with validation metrics, at least two models each."""
    groups: dict[tuple[str, int], dict[str, tuple[float, float]]] = defaultdict(dict)
    for record in records:
        validation, test = (record.get(part, {}).get(metric) for part in ("validation_metrics", "metrics"))
        if record["status"] == "ok" and validation is not None and test is not None:
            model = " ".join(filter(None, (record["model"]["label"], record["model"]["variant"])))
            data = f"{record['data']['label']} {record['data']['category']}"
            groups[data, record["seed"]][model] = (validation, test)
    return [select(values, data, seed) for (data, seed), values in groups.items() if len(values) > 1]


def draw(selections: Sequence[Selection], metric: str) -> tuple[Table, Table]:
    """Return a table of the selections and one of the mean regrets, in percent."""
    each = Table("data", "seed", "rho", "chosen", "regret", box=None, title=f"{metric}, in percent")
    for one in selections:
        each.add_row(one.data, str(one.seed), f"{one.correlation:.2f}", one.chosen, f"{100 * one.regret:.1f}")
    choices = {"validation on synthetic defects": [one.regret for one in selections]}
    for name in dict.fromkeys(name for one in selections for name in one.fixed_regrets):
        choices[f"always {name}"] = [one.fixed_regrets[name] for one in selections if name in one.fixed_regrets]
    means = Table("choice", "mean regret", "largest", "data sets and seeds", box=None)
    for choice, regrets in sorted(choices.items(), key=lambda item: float(np.mean(item[1]))):
        means.add_row(choice, f"{100 * np.mean(regrets):.1f}", f"{100 * max(regrets):.1f}", str(len(regrets)))
    return each, means


def main(arguments: Sequence[str]) -> int:
    """Print the tables.

    Returns:
        The exit status 0. Wrong arguments, and results without models to choose from, exit with status 2.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-plus selection", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a benchmark with --synthetic-validation")
    parser.add_argument("--metric", choices=METRICS, default="image_auroc", help="default: image_auroc")
    options = parser.parse_args(arguments)
    if not (options.results / FILE).is_file():
        parser.error(f"There is no {FILE} in {options.results}: give the folder of a benchmark's results.")
    selections = read_selections(ResultStore(options.results).records(), options.metric)
    if not selections:
        parser.error(
            f"No data set in {options.results} has two models with {options.metric} on validation and test: run "
            "anomalib-plus benchmark --synthetic-validation with several models."
        )
    console = Console(markup=False)
    for table in draw(selections, options.metric):
        console.print(table)
    correlations = [one.correlation for one in selections if np.isfinite(one.correlation)]
    mean = f"{np.mean(correlations):.2f}" if correlations else "none"
    sys.stdout.write(f"Mean rho: {mean} ({len(correlations)} of {len(selections)})\n")
    return 0
