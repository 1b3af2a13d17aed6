"""anomalib-plus selection: tell whether synthetic defects choose the models that real defects would.

It reads the results of anomalib-plus benchmark --synthetic-validation, where each trained model was evaluated on
synthetic defects (validation) and on real ones (test). The regret of a choice is the best model's test metric minus
that of the chosen model. Choices are the model with the best validation metric, the one with the best quality by which
anomalib-plus build ranks (mean of image AUROC and AUPRO), and always the same model.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from anomalib_plus.benchmark.plan import with_variant
from anomalib_plus.benchmark.protocol import METRICS
from anomalib_plus.benchmark.quality import qualities
from anomalib_plus.benchmark.store import FILE, ResultStore

BUILD = "build's quality"
"""Name of the rule of ``anomalib-plus build``."""


class Choice(NamedTuple):
    """Choice of a model by a number on the validation images."""

    correlation: float
    """Spearman's rank correlation of that number and the test metric over the models; NaN if one is constant."""
    chosen: str
    """Names of the models with the highest number."""
    regret: float
    """On average over them."""


class Selection(NamedTuple):
    """Choices on one data set and seed: by validation metric and by the build's quality, and always the same model."""

    data: str
    seed: int
    choices: dict[str, Choice]
    fixed_regrets: dict[str, float]


def choose(validation: Mapping[str, float], test: Mapping[str, float]) -> Choice:
    """Choose the model with the highest validation number; higher is better in both, which name the same models."""
    numbers, tested = (np.array([values[name] for name in test]) for values in (validation, test))
    is_constant = np.ptp(numbers) == 0 or np.ptp(tested) == 0
    correlation = float("nan") if is_constant else float(spearmanr(numbers, tested).statistic)
    best = numbers == numbers.max()
    chosen = [name for name, is_best in zip(test, best, strict=True) if is_best]
    return Choice(correlation, ", ".join(chosen), float((tested.max() - tested[best]).mean()))


def read_selections(records: Sequence[Mapping[str, Any]], metric: str) -> list[Selection]:
    """Choose a model for each data set and seed of finished jobs with validation metrics, at least two models each.

    Baselines without a model are left out: nobody would choose one.
    """
    groups: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for record in records:
        parts = [record.get(part, {}) for part in ("validation_metrics", "metrics")]
        is_model = record["model"].get("no_model") is not True
        if record["status"] == "ok" and is_model and all(part.get(metric) is not None for part in parts):
            model = with_variant(record["model"]["label"], record["model"]["variant"])
            groups[f"{record['data']['label']} {record['data']['category']}", record["seed"]][model] = record
    return [_select(*place, models, metric) for place, models in groups.items() if len(models) > 1]


def _select(data: str, seed: int, records: Mapping[str, Mapping[str, Any]], metric: str) -> Selection:
    def validated(name: str) -> dict[str, Any]:
        return {model: record["validation_metrics"].get(name) for model, record in records.items()}

    test = {model: record["metrics"][metric] for model, record in records.items()}
    choices = {metric: choose(validated(metric), test)}
    if None not in validated("image_auroc").values():
        choices[BUILD] = choose(qualities(validated("image_auroc"), validated("aupro")), test)
    return Selection(data, seed, choices, {model: max(test.values()) - value for model, value in test.items()})


def draw(selections: Sequence[Selection], metric: str) -> tuple[Table, Table]:
    """Return a table of the choices and one of the means over data sets and seeds; regrets in percent."""
    title = f"regret of {metric}, in percent"
    each = Table("data", "seed", "chosen by", "rho", "chosen", "regret", box=None, title=title)
    regrets: dict[str, list[float]] = defaultdict(list)
    correlations: dict[str, list[float]] = defaultdict(list)
    for one in selections:
        for rule, choice in one.choices.items():
            cells = (f"{choice.correlation:.2f}", choice.chosen, f"{100 * choice.regret:.1f}")
            each.add_row(one.data, str(one.seed), rule, *cells)
            regrets[f"by {rule}"].append(choice.regret)
            correlations[f"by {rule}"].append(choice.correlation)
        for model, regret in one.fixed_regrets.items():
            regrets[f"always {model}"].append(regret)
    means = Table("choice", "mean rho", "mean regret", "largest", "data sets and seeds", box=None)
    for name, found in sorted(regrets.items(), key=lambda item: float(np.mean(item[1]))):
        known = [value for value in correlations[name] if np.isfinite(value)]
        rho = f"{np.mean(known):.2f} ({len(known)} of {len(found)})" if known else "-"
        means.add_row(name, rho, f"{100 * np.mean(found):.1f}", f"{100 * max(found):.1f}", str(len(found)))
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
    return 0
