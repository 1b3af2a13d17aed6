"""Sentences on the best model and on short trainings."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import ttest_rel

from anomalib_plus.report import Store
from anomalib_plus.report.conclusions import conclusion, difference, sentences, short_training, short_trainings
from anomalib_plus.report.gallery import GalleryLimits
from anomalib_plus.report.markdown import render_markdown
from anomalib_plus.report.page import render_page
from anomalib_plus.report.summary import Summary
from synthetic_results import record


def summarize(values: dict[str, list[float | None]]) -> Summary:
    """Image AUROC of each model by seed; None for a seed that did not run."""
    made = []
    for label, of_seeds in values.items():
        for seed, value in enumerate(of_seeds):
            if value is not None:
                made.append(record(label, seed=seed) | {"metrics": {"image_auroc": value}})
    return Summary(Store(Path(), made))


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    first, second = [0.91, 0.95, 0.9, 0.96], [0.9, 0.91, 0.88, 0.92]
    found = difference(pd.Series(first), pd.Series([*second, 0.1]))  # a seed of one alone counts for nothing
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert (found.mean, found.n) == (pytest.approx(0.0275), 4)
    assert difference(pd.Series([0.5]), pd.Series([0.4])) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"A": [0.90, 0.91, 0.92], "B": [0.80, 0.81, 0.815]},
            "Parts: A has the highest image AUROC, 91.0 %, 10.2 points above B. The spread allows calling it better "
            "than each of the others: the difference over 3 seeds is +10.2 ± 0.3 points (95% interval +9.4 to +10.9).",
        ),
        (
            {"A": [0.90, 0.80, 0.95], "B": [0.85, 0.86, 0.87], "C": [0.1, 0.1, 0.1], "D": [0.8, 0.9, 0.7]},
            "Parts: A has the highest image AUROC, 88.3 %, 2.3 points above B. The spread does not allow calling it "
            "better than B and D: the difference over 3 seeds is +2.3 ± 7.4 points (95% interval −16.0 to +20.6).",  # noqa: RUF001
        ),
        (
            {"A": [0.90, 0.91, 0.92], "B": [0.89, 0.90, 0.91], "C": [0.99, 0.8, 0.7]},
            "Parts: A has the highest image AUROC, 91.0 %, 1.0 points above B. The spread allows calling it better "
            "than B, but not than C: the difference over 3 seeds is +1.0 ± 0.0 points (95% interval +1.0 to +1.0).",
        ),
        (
            {"A": [0.9001], "B": [0.9]},
            "Parts: A has the highest image AUROC, 90.0 %, less than 0.1 points above B. They share fewer than two "
            "seeds, so the spread is unknown and this may be chance.",
        ),
        (
            {"A": [0.9, 0.9], "B": [None, None, 0.8]},
            "Parts: A has the highest image AUROC, 90.0 %, 10.0 points above B. They share fewer than two seeds, "
            "so the spread is unknown and this may be chance.",
        ),
        ({"A": [1.0], "B": [1.0], "C": [0.5]}, "Parts: A and B share the highest image AUROC, 100.0 %."),
        ({"A": [0.9]}, "Parts: A has image AUROC 90.0 %. No other model has results on every category."),
    ],
)
def test_a_sentence_names_the_best_model_and_the_support_by_the_spread(
    values: dict[str, list[float | None]], expected: str
) -> None:
    assert conclusion(summarize(values), "Parts") == expected


def test_without_a_model_on_every_category_nobody_is_best() -> None:
    made = [record("A", "bolt"), record("B", "nut")]
    text = conclusion(Summary(Store(Path(), made)), "Parts")
    assert text == "Parts: no model has results on every category, so none is ranked."


def test_what_is_missing_may_change_it() -> None:
    missing = [record("B"), record("B", data="Elsewhere")]
    text = conclusion(Summary(Store(Path(), [record("A")], missing=missing)), "Parts")
    assert text.endswith(
        "No other model has results on every category. This may change: 1 planned job has no result yet."
    )


def test_models_that_are_not_better_than_no_model_are_named() -> None:
    def job(label: str, category: str = "bolt", mark: bool = False, **metrics: float) -> dict[str, Any]:
        made = record(label, category) | {"metrics": metrics}
        return made | {"model": {**made["model"], "no_model": mark}}

    runs = [
        job("Edges", mark=True, image_auroc=0.9, aupro=0.5),
        job("Equal", image_auroc=0.9, aupro=0.6),
        job("Worse", image_auroc=0.8, aupro=0.4),
        job("Better", image_auroc=0.95, aupro=0.7),
    ]
    first, second = sentences(Summary(Store(Path(), runs)), "Parts")
    assert first.startswith("Parts: Better has the highest image AUROC")
    assert second == (
        "Parts: Edges, a baseline without a model, has image AUROC 90.0 %, AUPRO 50.0 %. Not better than that: "
        "in image AUROC, Equal and Worse; in AUPRO, Worse."
    )
    assert second in render_markdown(Summary(Store(Path(), runs)), {}, "Benchmark")
    assert second in render_page(Summary(Store(Path(), runs)), {}, GalleryLimits(), "Benchmark")[0]
    assert sentences(Summary(Store(Path(), [runs[0], runs[3]])), "Parts")[1].endswith("Every ranked model is better.")
    assert len(sentences(Summary(Store(Path(), runs[1:])), "Parts")) == 1
    more = [*runs[1:], job("Edges", "nut", mark=True, image_auroc=0.9)]
    assert len(sentences(Summary(Store(Path(), more)), "Parts")) == 1, "on another category, nothing is compared"


def trained(epochs: float, steps: float, **changes: Any) -> dict[str, Any]:
    return record(costs={"epochs": epochs, "steps": steps}) | changes


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"),
    [
        (3, 24, "3 epochs, 24 steps"),
        (1, 4999, "1 epoch, 4999 steps"),
        (100, 499, "100 epochs, 499 steps"),
        (9, 5000, None),
        (10, 500, None),
    ],
)
def test_what_is_called_short(epochs: int, steps: int, expected: str | None) -> None:
    assert short_training([trained(epochs, steps)]) == expected


def test_a_memory_bank_is_not_short_and_a_range_is_named() -> None:
    assert short_training([trained(1, 10, training=[{"epoch": 0}])]) is None
    assert short_training([trained(1, 10) | {"costs": None}]) is None
    runs = [trained(3, 24), trained(4, 30), trained(300, 6000)]
    for number, run in enumerate(runs):
        run |= {"job_id": str(number), "seed": number}
    text = short_trainings(Summary(Store(Path(), runs)), "Parts")
    assert text.endswith("do not show what the models can do: Fast (3 to 4 epochs, 24 to 30 steps).")
    assert "fewer than 500 steps, or fewer than 10 epochs and 5000 steps" in text
    assert short_trainings(Summary(Store(Path(), runs[2:])), "Parts") is None
