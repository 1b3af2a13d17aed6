"""The runner for clusters with a stand-in for Ray, and what it asks of the machines."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from anomalib_plus.benchmark import ray_runner
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.ray_runner import Share, threads_per_job
from anomalib_plus.benchmark.record import new_record
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.store import ResultStore
from stub_job import make_job

ERRORS = ("WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError")
EXCEPTIONS = SimpleNamespace(RayError=type("RayError", (Exception,), {}))
for name in ERRORS:
    setattr(EXCEPTIONS, name, type(name, (EXCEPTIONS.RayError,), {}))


class StandIn:
    """Gives the outcomes of a list, one for each task, whatever the tasks are."""

    exceptions = EXCEPTIONS

    def __init__(self, outcomes):
        self.outcomes, self.options, self.submitted = outcomes, None, 0

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=self.submit)

    def submit(self, job, threads):
        self.submitted += 1
        return self.submitted - 1

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        outcome = self.outcomes[reference]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def job():
    return make_job()


@pytest.fixture
def done(job):
    times = {"started": "2026-01-01T10:00:00+00:00", "finished": "2026-01-01T10:01:30+00:00"}
    return new_record(job, "") | times, {}


def run(job, folder, outcomes, retries=3):
    cluster, store, text = StandIn(outcomes), ResultStore(folder / "results"), io.StringIO()
    with SweepProgress(1, 0, 1, Console(file=text)) as progress:
        ray_runner._run(cluster, [job], store, progress, 2, 0.5, retries)
    return cluster, store.record(job.job_id), text.getvalue()


@pytest.mark.parametrize(
    ("is_initialized", "calls"), [(False, ["init auto", "shutdown"]), (True, [])], ids=["ours", "the user's"]
)
def test_a_cluster_that_the_process_uses_already_is_kept(job, done, tmp_path, monkeypatch, is_initialized, calls):
    cluster, seen = StandIn([done]), []
    cluster.is_initialized = lambda: is_initialized
    cluster.init = lambda address, log_to_driver: seen.append(f"init {address}")
    cluster.nodes = lambda: [{"Alive": True, "Resources": machine(8)}]
    cluster.shutdown = lambda: seen.append("shutdown")
    monkeypatch.setitem(sys.modules, "ray", cluster)
    store = ResultStore(tmp_path / "results")
    with SweepProgress(1, 0, 1, Console(file=io.StringIO())) as progress:
        ray_runner.run_on_ray([job], store, progress, Share(), 0, "auto")
    assert store.record(job.job_id)["status"] == "ok"
    assert seen == calls


def test_durations_leave_out_the_time_in_the_queue(job, done, tmp_path):
    cluster, record, shown = run(job, tmp_path, [done])
    assert cluster.options == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": 0}
    assert record["status"] == "ok"
    assert ", 1:30; done" in shown


@pytest.mark.parametrize("name", ERRORS[:3])
def test_what_a_dead_machine_took_along_is_repeated(job, done, tmp_path, name):
    cluster, record, _ = run(job, tmp_path, [getattr(EXCEPTIONS, name)("gone"), done])
    assert (cluster.submitted, record["status"]) == (2, "ok")


def test_repetitions_have_an_end(job, tmp_path):
    cluster, record, _ = run(job, tmp_path, [EXCEPTIONS.NodeDiedError("gone")] * 9, retries=2)
    assert cluster.submitted == 3
    assert (record["status"], record["error"]["kind"]) == ("failed", "crash")
    assert record["error"]["message"] == "Ray lost the job: gone"


@pytest.mark.parametrize(("name", "kind"), [("OutOfMemoryError", "out_of_memory"), ("RayError", "crash")])
def test_other_failures_are_recorded_at_once(job, tmp_path, name, kind):
    cluster, record, shown = run(job, tmp_path, [getattr(EXCEPTIONS, name)("too much")])
    assert cluster.submitted == 1
    assert record["error"]["kind"] == kind
    assert "too much" in record["error"]["message"]
    assert f"FAILED {job.title}: {kind}" in shown


def machine(cpus, gpus=None):
    return {"CPU": float(cpus), "memory": 1e9} | ({} if gpus is None else {"GPU": float(gpus)})


@pytest.mark.parametrize(
    ("wish", "machines", "threads"),
    [
        (Share(), [machine(8)], 8),
        (Share(workers=4), [machine(8), machine(64)], 2),
        (Share(workers=9), [machine(8)], 1),
        (Share(threads=3, workers=9), [machine(8)], 3),
        (Share(gpus=1), [machine(2), machine(64, 4)], 16),
        (Share(gpus=0.5), [machine(64, 4), machine(8, 1)], 4),
        (Share(gpus=4), [machine(64, 4)], 64),
        (Share(), [{"memory": 1e9}, machine(8)], 8),
    ],
)
def test_threads_fit_into_the_machines(wish, machines, threads):
    assert threads_per_job(wish, machines) == threads


@pytest.mark.parametrize(
    ("wish", "machines", "message"),
    [
        (Share(threads=16), [machine(8, 4)], "needs 16 CPUs and 0 GPUs; .* have 8 CPUs and 4 GPUs"),
        (
            Share(gpus=1),
            [machine(8), machine(4)],
            "needs 1 CPU and 1 GPU; .* have 8 CPUs and 0 GPUs; 4 CPUs and 0 GPUs",
        ),
        (Share(threads=8, gpus=1), [machine(64), machine(4, 1)], "needs 8 CPUs and 1 GPU"),
        (Share(), [], "have none"),
    ],
)
def test_a_job_that_fits_nowhere_is_an_error(wish, machines, message):
    with pytest.raises(PlanError, match=message):
        threads_per_job(wish, machines)
