"""The runner with jobs that take milliseconds and die in every way there is."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from rich.console import Console

from anomalib_plus.benchmark import process, supervision
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.record import failed, new_record, now
from anomalib_plus.benchmark.runner import run_local, unfinished
from anomalib_plus.benchmark.store import ResultStore
from stub_job import make_job as job

TESTS = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("stub_jobs")


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")


def run(jobs, store, workers=2, **options):
    text = io.StringIO()
    with SweepProgress(len(jobs), 0, workers, Console(file=text)) as progress:
        run_local(jobs, store, progress, workers, **options)
    return text.getvalue()


def runs(store, jobs):
    return [store.work_file(job.job_id, "runs").read_text().count("run") for job in jobs]


@pytest.mark.parametrize(
    ("wish", "kind", "message"),
    [
        ({"error": "told so"}, "exception", "told so"),
        ({"status": 3}, "crash", "status 3"),
        ({"status": 0}, "crash", "left no record"),
        ({"signal": "SIGSEGV"}, "crash", "SIGSEGV"),
        ({"signal": "SIGKILL"}, "out_of_memory", "signal 9"),
        ({"sleep": 60, "timeout": 2}, "timeout", "2 seconds"),
    ],
)
def test_every_failure_is_a_record(wish, kind, message, store):
    bad, good = job(**wish), job(seed=1)
    shown = run([bad, good], store)
    record = store.record(bad.job_id)
    assert record["status"] == "failed"
    assert record["error"]["kind"] == kind
    assert message in record["error"]["message"]
    assert ("something went wrong" in (record["error"]["traceback"] or "")) == ("status" in wish)
    assert len(store.file.read_text().splitlines()) == 2
    assert "Fatal" not in store.work_file(good.job_id, "log").read_text()
    assert store.record(good.job_id)["status"] == "ok"
    assert f"FAILED {bad.title}: {kind}" in shown
    assert "[2/2]" in shown


def test_a_failure_that_json_cannot_hold_is_a_record_too(store):
    bad, good = job(status=1, sigma=float("inf")), job(seed=1)
    run([bad, good], store)
    assert store.record(bad.job_id)["status"] == "failed"
    assert store.record(bad.job_id)["model"]["arguments"]["sigma"] is None
    assert store.record(good.job_id)["status"] == "ok"


def test_a_failure_that_another_sweep_recorded_meanwhile_stays(store):
    late = job(error="mine")
    theirs = failed(new_record(late, now()), "exception", "theirs")
    store.append(theirs)  # after the runner has read the store
    running = supervision.JobProcess(late, store)
    assert running.settle() == "failed"
    assert store.record(late.job_id) == theirs
    assert supervision.JobProcess(late, store, again=True).settle() == "failed"
    assert store.record(late.job_id)["error"]["message"] == "mine"


def test_a_job_that_another_sweep_has_keeps_its_log_and_its_description(store):
    taken = job(status=1)
    log, description = (store.work_file(taken.job_id, ending) for ending in ("log", "json"))
    description.write_text("{}")
    log.write_text("of the other process\n")
    opened = description.open()
    claim = store.claim(taken.job_id)
    assert supervision.JobProcess(taken, store).settle() is None
    assert log.read_text().startswith("of the other process\n")
    assert opened.read() == "{}", "a process that reads it sees the old or the new one, whole"
    claim.release()
    run([taken], store)
    assert "of the other process" not in log.read_text()
    assert "something went wrong" in log.read_text()
    assert {file.suffix for file in log.parent.iterdir()} == {".json", ".lock", ".log", ".runs"}


def test_what_is_finished_is_not_repeated(store):
    jobs = [job(seed) for seed in range(3)] + [job(9, status=1)]
    run(jobs[:2], store)
    run(unfinished(jobs, store), store)
    assert unfinished(jobs, store) == []
    assert runs(store, jobs) == [1, 1, 1, 1]
    assert unfinished(jobs, store, retry_failed=True) == jobs[3:]


def test_devices_are_dealt_out(store, monkeypatch):
    seen = []
    original = subprocess.Popen

    def spy(*arguments, **options):
        seen.append(options["env"].get("CUDA_VISIBLE_DEVICES"))
        return original(*arguments, **options)

    monkeypatch.setattr(process.subprocess, "Popen", spy)
    run([job(seed) for seed in range(2)], store, devices=["4", "5"])
    assert sorted(seen) == ["4", "5"]


SWEEP = """
import sys
sys.path[:0] = [{tests!r}, {unit!r}]
from pathlib import Path
import test_runner
from anomalib_plus.benchmark import supervision
from anomalib_plus.benchmark.runner import unfinished
from anomalib_plus.benchmark.store import ResultStore
supervision.JOB_MODULE = "stub_job"
store = ResultStore(Path(sys.argv[1]))
jobs = [test_runner.job(seed, sleep=0.3) for seed in range(6)]
test_runner.run(unfinished(jobs, store), store)
"""


def start_sweep(folder):
    code = textwrap.dedent(SWEEP).format(tests=str(TESTS), unit=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdin=subprocess.DEVNULL)


def test_a_killed_sweep_goes_on_where_it_stopped(store):
    jobs = [job(seed, sleep=0.3) for seed in range(6)]
    for finished in (1, 3):
        sweep = start_sweep(store.folder)
        deadline = time.monotonic() + 60
        while len(store.states()) < finished and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.wait()
        assert finished <= len(store.states()) < len(jobs)
    assert start_sweep(store.folder).wait() == 0
    assert [store.record(job.job_id)["metrics"]["image_auroc"] for job in jobs] == [seed / 100 for seed in range(6)]
    assert len(store.file.read_text().splitlines()) == len(jobs)
    assert sum(runs(store, jobs)) <= len(jobs) + 2 * 2, "a kill costs the running jobs only"


def test_two_sweeps_share_the_work(store):
    sweeps = [start_sweep(store.folder) for _ in range(2)]
    assert [sweep.wait() for sweep in sweeps] == [0, 0]
    jobs = [job(seed, sleep=0.3) for seed in range(6)]
    assert runs(store, jobs) == [1] * 6
    assert len(store.file.read_text().splitlines()) == 6


def test_a_job_dies_with_its_sweep(store):
    sleeper = job(sleep=600)
    running = supervision.JobProcess(sleeper, store)
    while not store.work_file(sleeper.job_id, "runs").exists():
        time.sleep(0.02)
    running.process.stdin.close()  # what the kernel does when the parent is killed
    assert running.process.wait(timeout=20) == 1
    assert store.claim(sleeper.job_id) is not None
