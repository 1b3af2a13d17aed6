import json
import multiprocessing
import os
import time

import pytest

from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.store import ResultStore, read_plan


def record(job_id, status="ok", **more):
    return {"job_id": job_id, "status": status, **more}


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")


def test_records_come_back_in_order(store):
    assert store.records() == []
    for name in "abc":
        assert store.append(record(name, text="ä"))
    assert [found["job_id"] for found in store.records()] == ["a", "b", "c"]
    assert store.record("b") == record("b", text="ä")
    assert store.states() == dict.fromkeys("abc", "ok")


def test_a_success_is_never_replaced_and_a_failure_is(store):
    store.append(record("a", "failed"))
    assert store.append(record("a", "ok", value=1))
    assert not store.append(record("a", "ok", value=2))
    assert not store.append(record("a", "failed"))
    assert store.records() == [record("a", "ok", value=1)]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_ignored_then_repaired(store, cut):
    store.append(record("a"))
    store.append(record("b", text="x" * 20))
    whole = store.file.read_bytes()
    os.truncate(store.file, len(whole) - cut)
    assert [found["job_id"] for found in store.records()][:1] == ["a"]
    store.append(record("c"))
    store.append(record("b", text="x" * 20))
    assert {found["job_id"] for found in store.records()} == {"a", "b", "c"}
    assert all(json.loads(line) for line in store.file.read_text().splitlines())


def test_nan_is_refused_rather_than_written(store):
    with pytest.raises(ValueError, match="JSON"):
        store.append(record("a", value=float("nan")))
    assert store.append(record("b"))
    assert [found["job_id"] for found in store.records()] == ["b"]


def in_three_processes(target, store):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=target, args=(store.folder, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def append_many(folder, writer):
    store = ResultStore(folder)
    for number in range(25):
        store.append(record(f"{writer}-{number}", text="y" * 5000))
        store.append(record(f"shared-{number}"))


def test_many_writers_lose_and_repeat_nothing(store):
    in_three_processes(append_many, store)
    lines = [json.loads(line)["job_id"] for line in store.file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name}-{number}" for name in (0, 1, 2, "shared") for number in range(25))


def test_a_claim_excludes_others_until_it_is_released(store):
    claim = store.claim("a")
    assert claim is not None
    assert ResultStore(store.folder).claim("a") is None
    assert store.claim("b") is not None
    claim.release()
    assert store.claim("a") is not None


def hold(folder, held):
    claim = ResultStore(folder).claim("a")
    held.set()
    time.sleep(60)
    claim.release()


def test_a_killed_process_frees_its_claim(store):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=hold, args=(store.folder, held))
    holder.start()
    assert held.wait(20)
    assert store.claim("a") is None
    holder.kill()
    holder.join()
    assert store.claim("a") is not None


def entries(*names):
    job = {"model": {"label": "M"}, "data": {"label": "D", "category": "c"}, "seed": 0}
    return [{"job_id": name, **job} for name in names]


def planned(folder):
    return [entry["job_id"] for entry in read_plan(folder)]


def test_plans_add_up_and_are_whole_at_any_moment(store, monkeypatch):
    assert read_plan(store.folder) is None
    store.add_to_plan(entries("a", "b"))
    store.add_to_plan(entries("b", "c"))
    assert planned(store.folder) == ["a", "b", "c"]

    def power_cut(descriptor):
        raise OSError("no power")

    monkeypatch.setattr(os, "fsync", power_cut)
    store.add_to_plan(entries("a"))  # nothing new, nothing written
    with pytest.raises(OSError, match="no power"):
        store.add_to_plan(entries("d"))
    assert planned(store.folder) == ["a", "b", "c"]
    monkeypatch.undo()
    store.add_to_plan(entries("d"))
    assert planned(store.folder) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"jobs": [1]}', '{"jobs": [{}]}', '{"jobs": [{"job_id": "a", "seed": 0}]}']
)
def test_a_damaged_plan_is_named(store, content):
    (store.folder / "plan.json").write_text(content)
    with pytest.raises(PlanError, match=r"plan\.json is damaged.*Delete it"):
        store.add_to_plan(entries("a"))


def add_one_by_one(folder, writer):
    store = ResultStore(folder)
    for number in range(10):
        store.add_to_plan(entries(f"{writer}-{number}"))


def test_sweeps_that_start_together_lose_no_entry(store):
    in_three_processes(add_one_by_one, store)
    assert sorted(planned(store.folder)) == sorted(f"{writer}-{number}" for writer in range(3) for number in range(10))
