"""Whether synthetic defects choose the models that real ones would."""

import math
from pathlib import Path
from typing import Any

import pytest

from anomalib_plus.benchmark import selection
from anomalib_plus.benchmark.selection import read_selections, select
from anomalib_plus.benchmark.store import ResultStore


def record(model: str, validation: float | None, test: float | None, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "job_id": f"{model}{seed}", "status": "ok", "model": {"label": model, "variant": None}, "seed": seed,
        "data": {"label": "parts", "category": "nut"}, "metrics": {"image_auroc": test},
        "validation_metrics": {} if validation is None else {"image_auroc": validation}, **more,
    }  # fmt: skip


def test_regret_and_rank_correlation() -> None:
    found = select({"A": (0.9, 0.7), "B": (0.8, 0.8), "C": (0.6, 0.5)})
    assert (found.chosen, found.correlation) == ("A", pytest.approx(0.5))
    assert found.regret == pytest.approx(0.1)
    assert found.fixed_regrets == {"A": pytest.approx(0.1), "B": 0.0, "C": pytest.approx(0.3)}


def test_ties_share_the_regret() -> None:
    found = select({"A": (1.0, 0.7), "B": (1.0, 0.9), "C": (0.6, 0.9)})
    assert (found.chosen, found.regret) == ("A, B", pytest.approx(0.1))
    assert math.isnan(select({"A": (1.0, 0.7), "B": (1.0, 0.9)}).correlation)


def test_jobs_without_both_metrics_do_not_count() -> None:
    records = [record("A", 0.9, 0.7), record("B", 0.8, 0.8), record("C", None, 1.0), record("D", 1.0, None)]
    records += [record("E", 1.0, 1.0, status="failed"), record("A", 0.5, 0.5, seed=1)]
    (found,) = read_selections(records, "image_auroc")
    assert set(found.fixed_regrets) == {"A", "B"}


def test_the_command_prints_the_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ResultStore(tmp_path / "results")
    for one in (record("A", 0.9, 0.7), record("B", 0.8, 0.8)):
        store.append(one)
    assert selection.main([str(store.folder)]) == 0
    printed = capsys.readouterr().out
    assert "Mean rho: -1.00 (1 of 1)" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert ["always", "A", "10.0", "10.0", "1"] in lines
    assert ["always", "B", "0.0", "0.0", "1"] in lines
    for folder, message in ((tmp_path, "There is no results.jsonl"), (store.folder, "No data set")):
        with pytest.raises(SystemExit):
            selection.main([str(folder), "--metric", "aupro"])
        assert message in capsys.readouterr().err
