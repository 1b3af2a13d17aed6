"""Sentences on the results: the best model, its lead, and the support by the spread over seeds."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
from scipy.stats import t

from anomalib_plus.counts import counted
from anomalib_plus.report.records import Record, finite, part, parts
from anomalib_plus.report.summary import Summary
from anomalib_plus.report.words import metric_title, percent, points

CONFIDENCE = 0.95
_FEW_STEPS, _FEW_EPOCHS, _MANY_STEPS = 500, 10, 5000
_ROUNDING = 1e-9
_AGAINST_NO_MODEL = ("image_auroc", "aupro", "pixel_ap")
"""Metrics in which a model is expected to be better than no model."""
SHORT = f"fewer than {_FEW_STEPS} steps, or fewer than {_FEW_EPOCHS} epochs and {_MANY_STEPS} steps"
"""Definition of a short training."""


class Difference(NamedTuple):
    """Mean difference of two models over ``n`` common seeds, with standard deviation and confidence interval."""

    mean: float
    std: float
    low: float
    high: float
    n: int


def difference(first: pd.Series, second: pd.Series) -> Difference | None:
    """Compare two models by their averages per seed (the index); None with fewer than two common seeds.

    The interval is Student's t interval of the paired differences.
    """
    paired = (first - second).dropna()
    if len(paired) < 2:
        return None
    mean, std = float(paired.mean()), float(paired.std())
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(paired) - 1)) * std / math.sqrt(len(paired))
    return Difference(mean, std, mean - half, mean + half, len(paired))


def conclusion(summary: Summary, data: str) -> str:
    """Name the best model of a data set, its lead, and whether the seeds support calling it better."""
    missing = sum(entry["data"]["label"] == data for entry in summary.store.missing or [])
    jobs = counted(missing, "planned job has", "planned jobs have")
    return _ranking(summary, data) + (f" This may change: {jobs} no result yet." if missing else "")


def sentences(summary: Summary, data: str) -> list[str]:
    """Return the sentences on a data set: the best model, and the models that are no better than no model."""
    return [conclusion(summary, data), *filter(None, [beside_no_model(summary, data)])]


def beside_no_model(summary: Summary, data: str) -> str | None:
    """Name the ranked models that are not above a baseline without a model; None if there is nothing to compare.

    Metrics without results on every category are left out.
    """
    marked = {summary.titles[r["job_id"]] for r in summary.store.finished if part(r, "model").get("no_model") is True}
    models = [model for rank, model in summary.ranking(data) if rank is not None and model not in marked]
    texts = []
    for baseline in (model for model in summary.models(data) if model in marked):
        reached = {name: own.mean for name in _AGAINST_NO_MODEL if (own := summary.over_all(data, baseline, name))}
        figures = ", ".join(f"{metric_title(name)} {percent(value)} %" for name, value in reached.items())
        behind = {
            name: [model for model in models if (own := summary.over_all(data, model, name)) and own.mean <= value]
            for name, value in reached.items()
        }
        weak = "; ".join(f"in {metric_title(name)}, {_listed(found)}" for name, found in behind.items() if found)
        end = f"Not better than that: {weak}." if weak else "Every ranked model is better."
        texts += [f"{data}: {baseline}, a baseline without a model, has {figures}. {end}"] if reached and models else []
    return " ".join(texts) or None


def _ranking(summary: Summary, data: str) -> str:
    metric = metric_title(summary.rank_by)
    ranks = {model: rank for rank, model in summary.ranking(data) if rank is not None}
    if not ranks:
        return f"{data}: no model has results on every category, so none is ranked."
    means = {model: own.mean for model in ranks if (own := summary.over_all(data, model, summary.rank_by))}
    leaders = [model for model, rank in ranks.items() if rank == 1]
    best, *others = ranks
    if len(leaders) > 1:
        return f"{data}: {_listed(leaders)} share the highest {metric}, {percent(means[best])} %."
    if not others:
        return f"{data}: {best} has {metric} {percent(means[best])} %. No other model has results on every category."
    gap = means[best] - means[others[0]]
    lead = (
        f"{data}: {best} has the highest {metric}, {percent(means[best])} %, "
        f"{points(gap).removeprefix('+') if gap >= 0.0005 else 'less than 0.1'} points above {others[0]}."
    )
    return f"{lead} {_support(summary, data, best, others)}"


def _support(summary: Summary, data: str, best: str, others: list[str]) -> str:
    """Say whether the spread separates the best model from the others, of which the second-best is the first."""
    best_figures = summary.seed_averages(data, best, summary.rank_by)
    found = {model: difference(best_figures, summary.seed_averages(data, model, summary.rank_by)) for model in others}
    near = found[others[0]]
    if near is None:
        return "They share fewer than two seeds, so the spread is unknown and this may be chance."
    numbers = (
        f"the difference over {near.n} seeds is {points(near.mean)} ± {percent(near.std)} points "
        f"({CONFIDENCE:.0%} interval {points(near.low)} to {points(near.high)})"
    )
    level = [model for model, each in found.items() if each is None or each.low <= _ROUNDING]
    if not level:
        return f"The spread allows calling it better than each of the others: {numbers}."
    if others[0] not in level:
        return f"The spread allows calling it better than {others[0]}, but not than {_listed(level)}: {numbers}."
    return f"The spread does not allow calling it better than {_listed(level)}: {numbers}."


def short_training(records: Iterable[Record]) -> str | None:
    """Return the length of the short trainings, e.g. ``3 epochs, 21 to 24 steps``; None if there are none.

    Models without a training loss, such as memory banks, are not counted.
    """
    short = []
    for record in records:
        costs = part(record, "costs")
        epochs, steps = finite(costs.get("epochs")), finite(costs.get("steps"))
        is_trained = any(finite(row.get("train_loss")) is not None for row in parts(record, "training"))
        if not is_trained or epochs is None or steps is None:
            continue
        if steps < _FEW_STEPS or (epochs < _FEW_EPOCHS and steps < _MANY_STEPS):
            short.append((epochs, steps))
    if not short:
        return None
    epochs_of, steps_of = zip(*short, strict=True)
    return f"{_range(epochs_of, 'epoch')}, {_range(steps_of, 'step')}"


def short_trainings(summary: Summary, data: str) -> str | None:
    """Name the models of a data set with short trainings; None if there are none."""
    lengths = {model: short_training(summary.finished(data, model)) for model in summary.models(data)}
    named = "; ".join(f"{model} ({length})" for model, length in lengths.items() if length)
    if not named:
        return None
    return f"{data}: short trainings ({SHORT}), whose metrics and images do not show what the models can do: {named}."


def _range(values: Iterable[float], unit: str) -> str:
    low, high = round(min(values)), round(max(values))
    return counted(low, unit) if low == high else f"{low} to {high} {unit}s"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
