"""Whether synthetic defects choose the models that real ones would."""

import math
from pathlib import Path
from typing import Any

import pytest

from anomalib_plus.benchmark import selection
from anomalib_plus.benchmark.selection import BUILD, choose, read_selections
from anomalib_plus.benchmark.store import ResultStore


def record(
    model: str, validation: float | None, test: float | None, seed: int = 0, aupro: float | None = None, **more: Any
) -> dict[str, Any]:
    validated = {} if validation is None else {"image_auroc": validation, "aupro": aupro}
    return {
        "job_id": f"{model}{seed}", "status": "ok", "model": {"label": model, "variant": None}, "seed": seed,
        "data": {"label": "parts", "category": "nut"}, "metrics": {"image_auroc": test},
        "validation_metrics": validated, **more,
    }  # fmt: skip


def test_regret_and_rank_correlation() -> None:
    found = choose({"A": 0.9, "B": 0.8, "C": 0.6}, {"C": 0.5, "A": 0.7, "B": 0.8})
    assert found == (pytest.approx(0.5), "A", pytest.approx(0.1))


def test_ties_share_the_regret() -> None:
    found = choose({"A": 1.0, "B": 1.0, "C": 0.6}, {"A": 0.7, "B": 0.9, "C": 0.9})
    assert (found.chosen, found.regret) == ("A, B", pytest.approx(0.1))
    assert math.isnan(choose({"A": 1.0, "B": 1.0}, {"A": 0.7, "B": 0.9}).correlation)


def test_jobs_without_both_metrics_and_without_a_model_do_not_count() -> None:
    records = [record("A", 0.9, 0.7), record("B", 0.8, 0.8), record("C", None, 1.0), record("D", 1.0, None)]
    records += [record("E", 1.0, 1.0, status="failed"), record("A", 0.5, 0.5, seed=1)]
    records += [record("F", 1.0, 1.0) | {"model": {"label": "F", "variant": None, "no_model": True}}]
    (found,) = read_selections(records, "image_auroc")
    assert found.fixed_regrets == {"A": pytest.approx(0.1), "B": 0.0}


@pytest.mark.parametrize(("aupros", "chosen"), [((0.2, 0.9, 0.1), "B"), ((0.2, 0.9, None), "A")])
def test_the_build_chooses_by_image_auroc_and_aupro_if_all_have_it(
    aupros: tuple[float | None, ...], chosen: str
) -> None:
    numbers = zip("ABC", (0.9, 0.8, 0.6), (0.7, 0.8, 0.5), aupros, strict=True)
    (found,) = read_selections([record(*given, aupro=aupro) for *given, aupro in numbers], "image_auroc")
    assert (found.choices["image_auroc"].chosen, found.choices[BUILD].chosen) == ("A", chosen)
    assert found.choices[BUILD].regret == pytest.approx({"A": 0.1, "B": 0.0}[chosen])


def test_without_image_auroc_the_build_chooses_nothing() -> None:
    changes = {"metrics": {"aupro": 0.5}, "validation_metrics": {"aupro": 0.5}}
    (found,) = read_selections([record(name, None, None) | changes for name in "AB"], "aupro")
    assert list(found.choices) == ["aupro"]


def test_the_command_prints_the_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ResultStore(tmp_path / "results")
    for one in (record("A", 0.9, 0.7, aupro=0.1), record("B", 0.8, 0.8, aupro=0.9)):
        store.append(one)
    assert selection.main([str(store.folder)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for row in (
        "parts nut 0 image_auroc -1.00 A 10.0",
        "parts nut 0 build's quality 1.00 B 0.0",
        "by image_auroc -1.00 (1 of 1) 10.0 10.0 1",
        "by build's quality 1.00 (1 of 1) 0.0 0.0 1",
        "always A - 10.0 10.0 1",
        "always B - 0.0 0.0 1",
    ):
        assert row in printed
    for folder, message in ((tmp_path, "There is no results.jsonl"), (store.folder, "No data set")):
        with pytest.raises(SystemExit):
            selection.main([str(folder), "--metric", "aupro"])
        assert message in capsys.readouterr().err
