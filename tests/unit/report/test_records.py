"""Results folders as runs leave them: whole, torn, damaged, empty, of another version."""

import json
import math
from pathlib import Path

import pytest

from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.report import ResultsError, read_store
from anomalib_plus.report.configurations import budget_words, configuration_titles
from anomalib_plus.report.records import finite, read_published
from synthetic_results import merged, record, write_plan, write_store


def test_the_last_record_of_a_job_counts(tmp_path: Path) -> None:
    first, other = record(seed=0), record(seed=1)
    crashed = first | {"status": "failed", "error": {"kind": "crash", "message": "", "traceback": ""}}
    store = read_store(write_store(tmp_path, [crashed, other, first]))
    assert [each["seed"] for each in store.finished] == [1, 0]
    assert store.failed == []
    store = read_store(write_store(tmp_path, [first, crashed]))
    assert (len(store.finished), len(store.failed)) == (0, 1)


def test_torn_and_damaged_lines_cost_only_themselves(tmp_path: Path) -> None:
    whole = [json.dumps(record(seed=seed)) for seed in range(3)]
    no_label = json.dumps(record(seed=5) | {"model": {"class_path": "a.B"}})
    lines = [whole[0], "[]", whole[1], "", '"text"', no_label, whole[2], whole[0][:50]]
    (tmp_path / "results.jsonl").write_bytes("\n".join(lines).encode() + b"\xff")
    store = read_store(tmp_path)
    assert [each["seed"] for each in store.finished] == [0, 1, 2]
    assert store.damaged_lines == [2, 5, 6, 8]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no .*results.jsonl"),
        ("", "is empty: no job has finished"),
        ("\n \n", "is empty"),
        ('{"format": 1, "job_', "no complete record, only 1 damaged line"),
        (json.dumps(record() | {"format": 2}), "line 1 has format 2; this version reads format 1"),
    ],
)
def test_unusable_folders_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(ResultsError, match=message):
        read_store(tmp_path)


def test_what_is_planned_and_has_no_record_is_missing(tmp_path: Path) -> None:
    records = [record(seed=seed) for seed in range(4)]
    write_store(tmp_path, records[:2])
    old = read_store(tmp_path)
    assert (old.missing, old.planned, old.shortfall) == (None, None, None)
    write_plan(tmp_path, records[1:])
    store = read_store(tmp_path)
    assert [each["seed"] for each in store.missing] == [2, 3]
    assert store.planned == 4, "a job from before there were plans counts, too"
    assert store.shortfall.startswith("2 of 4 planned jobs have no result")
    write_store(tmp_path, records)
    assert (read_store(tmp_path).planned, read_store(tmp_path).shortfall) == (4, None)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    write_store(tmp_path, [record()])
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(PlanError, match=r"plan\.json is damaged\. Delete it"):
        read_store(tmp_path)


def test_a_sweep_that_was_killed_before_its_first_result_is_named(tmp_path: Path) -> None:
    write_plan(tmp_path, [record(seed=seed) for seed in range(3)])
    with pytest.raises(ResultsError, match="of 3 planned jobs, none has finished"):
        read_store(tmp_path)


PUBLISHED = {"model": "package.models.Net", "category": "bolt", "metric": "aupro", "value": 0.9}


def test_published_numbers_by_model_category_and_metric(tmp_path: Path) -> None:
    assert read_published(tmp_path) == {}, "as in results of earlier versions"
    unknown, other = PUBLISHED | {"metric": "image_auroc", "value": None}, PUBLISHED | {"category": "nut", "value": 0.4}
    (tmp_path / "published.json").write_text(json.dumps([PUBLISHED, unknown, other]))
    assert read_published(tmp_path) == {("Net", "bolt", "aupro"): 0.9, ("Net", "nut", "aupro"): 0.4}


@pytest.mark.parametrize("content", ["[", "{}x", "[1]", '[{"model": "a.B"}]', "3"])
def test_a_damaged_file_of_published_numbers_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "published.json").write_text(content)
    with pytest.raises(ResultsError, match=r"published\.json is damaged"):
        read_published(tmp_path)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "0.5", True, [], {}])
def test_what_is_no_finite_number_is_missing(value: object) -> None:
    assert finite(value) is None


def titles_of(records: list[dict]) -> list[str]:
    titles = configuration_titles(records)
    return [titles[each["job_id"]] for each in records]


def test_seeds_and_categories_share_a_title_and_variants_do_not() -> None:
    records = [record(seed=seed, category=category) for seed in (0, 1) for category in ("bolt", "nut")]
    assert set(titles_of(records)) == {"Fast"}
    assert titles_of([record(), record(variant="repaired")]) == ["Fast", "Fast (repaired)"]


def test_different_settings_on_one_category_are_never_averaged() -> None:
    assert titles_of([record(), record(budget={"max_epochs": 60})]) == ["Fast · 20 epochs", "Fast · 60 epochs"]
    widths = [record(model={"arguments": {"width": width}}) for width in (8, None)]
    assert titles_of(widths) == ["Fast · width=8", "Fast · width=unset"]
    sizes = [record(protocol={"image_size": [size, size]}) for size in (64, 256)]
    assert titles_of(sizes) == ["Fast · image_size=[64, 64]", "Fast · image_size=[256, 256]"]
    long = [record(model={"arguments": {"path": letter * 50}}) for letter in "ab"]
    assert len({*titles_of(long)}) == 2
    assert all(len(title) < 30 for title in titles_of(long))


def test_trainers_and_classes_are_settings_too() -> None:
    precise = [record(trainer={"precision": value, "accelerator": value}) for value in ("32", "bf16-mixed")]
    assert titles_of(precise) == ["Fast · precision=32", "Fast · precision=bf16-mixed"]
    plain = record(trainer={"accelerator": "cpu"})
    assert titles_of([plain, precise[1]]) == ["Fast · precision=unset", "Fast · precision=bf16-mixed"]
    classes = [record(model={"class_path": f"a.long.package.with.a.{name}"}) for name in ("Fast", "OtherFast")]
    assert titles_of(classes) == ["Fast · a.long.package.with.a.Fast", "Fast · a.long.package.with.a.OtherFast"]
    devices = [record(trainer={"accelerator": name}, seed=seed) for seed, name in enumerate(("cpu", "gpu"))]
    assert titles_of(devices) == ["Fast", "Fast"]


def test_records_that_do_not_tell_the_trainer_stay_with_those_that_do() -> None:
    assert titles_of([record(seed=0), record(seed=1, trainer={"precision": "bf16-mixed"})]) == ["Fast", "Fast"]


def test_no_two_runs_have_one_place_in_a_table() -> None:
    places = [merged(record(), {"job_id": f"of {root}", "data": {"arguments": {"root": root}}}) for root in "ab"]
    assert titles_of([*places, record(seed=1)]) == ["Fast · of a", "Fast · of b", "Fast"]


def test_settings_that_follow_the_category_or_the_place_of_the_data_do_not_split_a_model() -> None:
    recipe = [record(category=name, model={"arguments": {"polarity": name}}) for name in ("bolt", "nut")]
    moved = merged(recipe[0], {"job_id": "moved", "seed": 1, "data": {"arguments": {"root": "/elsewhere"}}})
    assert set(titles_of([*recipe, moved])) == {"Fast"}


def test_budgets_in_words() -> None:
    assert budget_words({"max_epochs": 60, "max_steps": None, "max_seconds": None}) == "60 epochs"
    assert budget_words({"max_epochs": None, "max_steps": 500, "max_seconds": 90.0}) == "500 steps, at most 90 s"
    assert budget_words({"max_epochs": 1}) == "1 epoch"
    assert budget_words({"max_cpu_seconds": 1}) == "1 CPU s"
    assert budget_words({}) == "the model's own"
