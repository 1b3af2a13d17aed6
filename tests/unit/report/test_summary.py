"""Means, spreads and ranks against numpy on the records themselves, and what happens to gaps in them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_plus.report import Store
from anomalib_plus.report.summary import Figure, Summary
from anomalib_plus.report.tables import category_tables, comparisons, cost_table, leaderboard, paper_table
from synthetic_results import failed, record

METRIC = "image_auroc"


def summarize(records: list[dict[str, Any]], **options: Any) -> Summary:
    finished = [each for each in records if each["status"] == "ok"]
    return Summary(Store(Path(), finished, [each for each in records if each["status"] != "ok"]), **options)


def result(label: str, category: str, seed: int, value: float | None, **metrics: float | None) -> dict[str, Any]:
    made = record(label, category, seed)
    made["metrics"] = {METRIC: value, **metrics}
    return made


def texts(table: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_mean_and_spread_per_category_are_numpys(summary: Summary) -> None:
    values = [
        each["metrics"]["pixel_auroc"]
        for each in summary.store.finished
        if each["model"]["label"] == "Fast" and each["data"]["category"] == "felt"
    ]
    figure = summary.in_category("Fabrics", "Fast", "felt", "pixel_auroc")
    assert figure == Figure(pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)), 3)


def test_the_spread_over_categories_is_that_of_the_seeds_averages(summary: Summary) -> None:
    runs = [summary.finished("Parts", "Classic", category) for category in ("bolt", "nut", "gasket")]
    values = np.array([[each["metrics"]["aupro"] for each in of_category] for of_category in runs])
    figure, covered = summary.over_categories("Parts", "Classic", "aupro")
    assert figure.mean == pytest.approx(values.mean())
    assert figure.std == pytest.approx(values.mean(axis=0).std(ddof=1))
    assert (figure.n, covered) == (3, 3)


def test_a_seed_that_lacks_a_category_does_not_shift_the_average() -> None:
    records = [result("A", "easy", seed, 0.9) for seed in range(3)]
    records += [result("A", "hard", seed, 0.5) for seed in range(2)]
    figure, covered = summarize([*records, failed("A", "hard", 2)]).over_categories("Parts", "A", METRIC)
    assert (figure.mean, figure.std, figure.n, covered) == (pytest.approx(0.7), pytest.approx(0.0, abs=1e-12), 2, 2)


def test_without_a_seed_that_has_all_categories_there_is_no_spread() -> None:
    summary = summarize([result("A", "easy", 0, 0.9), result("A", "hard", 1, 0.5)])
    assert summary.over_categories("Parts", "A", METRIC) == (Figure(pytest.approx(0.7), None, 0), 2)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_missing_values_are_no_zeros(missing: float | None) -> None:
    summary = summarize([result("A", "bolt", 0, 0.8), result("A", "bolt", 1, missing)])
    assert summary.in_category("Parts", "A", "bolt", METRIC) == Figure(0.8, None, 1)
    nothing = summarize([result("A", "bolt", 0, missing)])
    assert nothing.metrics == []
    assert texts(leaderboard(nothing, "Parts")) == [["A", "–", "0 of 1", "0", "0"]]  # noqa: RUF001
    assert category_tables(nothing, "Parts") == []


def test_only_models_with_every_category_are_ranked_and_ties_share_a_rank() -> None:
    records = [result(label, category, 0, 0.8) for label in "AB" for category in ("bolt", "nut")]
    records += [result("D", "bolt", 0, 0.5), result("D", "nut", 0, 0.6)]
    records += [result("C", "bolt", 0, 1.0), failed("E", "nut", 0)]
    summary = summarize(records)
    assert summary.ranking("Parts") == [(1, "A"), (1, "B"), (3, "D"), (None, "C"), (None, "E")]
    table = leaderboard(summary, "Parts")
    assert list(table.columns) == ["model", "rank", "image AUROC", "categories", "seeds", "failed jobs"]
    assert texts(table)[3:] == [["C", "–", "100.0", "1 of 2", "1", "0"], ["E", "–", "–", "0 of 2", "0", "1"]]  # noqa: RUF001
    assert [row[2].best for row in table.rows] == [True, True, False, False, False]

    alone = summarize([result("A", "bolt", 0, 0.8), failed("A", "nut", 0)])
    assert alone.ranking("Parts") == [(None, "A")], "a category on which every job failed counts"


def test_a_metric_of_fewer_categories_than_its_row_says_so() -> None:
    records = [result("A", "bolt", 0, 0.9, aupro=0.6), result("A", "nut", 0, 0.7, aupro=None)]
    assert texts(leaderboard(summarize(records), "Parts")) == [["A", "1", "80.0", "60.0 (1 of 2)", "2 of 2", "1", "0"]]


def test_another_metric_can_rank() -> None:
    records = [result("A", "bolt", 0, 0.9, aupro=0.1), result("B", "bolt", 0, 0.8, aupro=0.2)]
    assert summarize(records).ranking("Parts") == [(1, "A"), (2, "B")]
    assert summarize(records, rank_by="aupro").ranking("Parts") == [(1, "B"), (2, "A")]
    with pytest.raises(ValueError, match="no record has the metric pro; available: image_auroc, aupro"):
        summarize(records, rank_by="pro")


def test_data_sets_without_categories() -> None:
    summary = summarize([record(category=None)])
    assert summary.categories("Parts") == ["all"]
    assert [row[0] for row in texts(category_tables(summary, "Parts")[0])] == ["all"]


def test_the_best_of_a_category_is_marked_and_variants_are_apart(summary: Summary) -> None:
    table = category_tables(summary, "Parts")[0]
    assert {"Classic", "Classic (loss repaired)"} < set(table.columns)
    for row in table.rows:
        values = [cell.value for cell in row[1:] if cell.value is not None]
        assert [cell.value for cell in row if cell.best] == [max(values)]


def test_gaps_to_the_paper_and_means_over_the_same_categories() -> None:
    records = [
        result("A", name, seed, value + seed / 100)
        for name, value in (("x", 0.9), ("y", 0.8), ("z", 0.1))
        for seed in (0, 2)
    ]
    papers = {("A", "x"): 0.95, ("A", "y"): 0.8, ("A", "elsewhere"): 1.0, ("B", "z"): 1.0}
    papers = {(*place, METRIC): number for place, number in papers.items()}
    found = comparisons(summarize(records), papers)
    assert [(row.category, row.paper, row.gap) for row in found] == [
        ("x", 0.95, pytest.approx(-0.04)),
        ("y", 0.8, pytest.approx(0.01)),
        ("mean of 2", pytest.approx(0.875), pytest.approx(-0.015)),
    ]
    assert texts(paper_table(found, "Parts"))[0] == ["A", "x", "image AUROC", "95.0", "91.0 ± 1.4", "−4.0", "2"]  # noqa: RUF001
    assert comparisons(summarize(records), {}) == []


def test_costs_in_the_units_of_their_titles() -> None:
    table = cost_table(summarize([record("Fast", seed=seed) for seed in (0, 4)]), "Parts")
    row = dict(zip(table.columns, texts(table)[0], strict=True))
    assert row == {
        "model": "Fast",
        "training (s)": "62",
        "parameters (M)": "1.25",
        "latency, one image (ms)": "16",
        "GMACs": "2.5",
    }
