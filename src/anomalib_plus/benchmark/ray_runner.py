"""Run the jobs of a sweep on a Ray cluster; needs ``pip install ".[ray]"`` on every machine.

Each job is a Ray task that reserves CPUs and GPUs and runs the job in a process of its own, so that a crash is recorded
as a result. Data and weights must have the same paths on every machine. Only the process that started the sweep writes
to the store; the tasks send it their records and image files.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import BaseFileLock

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.record import failed, new_record, now, seconds
from anomalib_plus.benchmark.runner import finished_elsewhere
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.benchmark.supervision import JobProcess
from anomalib_plus.counts import counted

_BUSY_SECONDS = 2.0
_MAX_IN_FLIGHT = 200
"""Jobs submitted to Ray at a time; each holds a lock file open."""


@dataclass(frozen=True)
class Share:
    """Resources of a machine for one job.

    Args:
        threads: CPUs; None for the CPUs per reserved GPU, or cores / workers without GPUs.
        gpus: GPUs; a fraction lets jobs share one.
        workers: Jobs at a time on a machine, if neither threads nor GPUs are given.
    """

    threads: int | None = None
    gpus: float = 0.0
    workers: int = 1


@dataclass(frozen=True)
class _Task:
    job: Job
    claim: BaseFileLock
    started: str
    retries: int


def run_on_ray(
    jobs: Sequence[Job],
    store: ResultStore,
    progress: SweepProgress,
    share: Share,
    retries: int,
    address: str | None,
) -> None:
    """Run jobs on a cluster and return when all have a record.

    ``address`` is that of the cluster (``auto`` for the one running here); None starts one on this machine. If this
    process has initialised Ray already, that cluster is used instead and goes on running. A job whose machine or Ray
    worker dies is repeated up to ``retries`` times.

    Raises:
        PlanError: If Ray is not installed, or no machine of the cluster has enough resources.
    """
    try:
        import ray
    except ImportError as error:
        msg = '--runner ray needs Ray: pip install ".[ray]" in a clone of anomalib-plus.'
        raise PlanError(msg) from error
    is_ours = not ray.is_initialized()
    if is_ours:
        start = {"address": address} if address else {"include_dashboard": False}
        ray.init(**start, log_to_driver=False)
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        threads = threads_per_job(share, machines)
        progress.workers = max(sum(_room(machine, threads, share.gpus) for machine in machines), 1)
        _run(ray, jobs, store, progress, threads, share.gpus, retries)
    finally:
        if is_ours:
            ray.shutdown()


def threads_per_job(share: Share, machines: Sequence[Mapping[str, float]]) -> int:
    """Return the CPUs that a job reserves: the requested number, else the smallest share of a suitable machine.

    ``machines`` are ``CPU`` and ``GPU`` of each, as Ray counts them. A PlanError if none has enough resources; Ray
    would wait for one silently.
    """
    least = share.threads or 1
    able = [machine for machine in machines if _room(machine, least, share.gpus)]
    if not able:
        there = "; ".join(_in_words(_count(machine, "CPU"), _count(machine, "GPU")) for machine in machines)
        msg = (
            f"A job needs {_in_words(least, share.gpus)}; the machines of the Ray cluster have {there or 'none'}. "
            "Lower --threads or --gpus-per-job."
        )
        raise PlanError(msg)
    return share.threads or min(_fair_threads(machine, share) for machine in able)


def _in_words(cpus: float, gpus: float) -> str:
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"


def _fair_threads(machine: Mapping[str, float], share: Share) -> int:
    jobs = _count(machine, "GPU") / share.gpus if share.gpus else share.workers
    return max(int(_count(machine, "CPU") / jobs), 1)


def _room(machine: Mapping[str, float], threads: int, gpus: float) -> int:
    """Number of jobs that a machine runs at a time."""
    by_gpus = _count(machine, "GPU") / gpus if gpus else math.inf
    return int(min(_count(machine, "CPU") / threads, by_gpus) + 1e-9)


def _count(machine: Mapping[str, float], resource: str) -> float:
    return machine.get(resource, 0.0)  # Ray leaves out what a machine does not have


def _run(
    ray: Any,
    jobs: Sequence[Job],
    store: ResultStore,
    progress: SweepProgress,
    threads: int,
    gpus: float,
    retries: int,
) -> None:
    # Ray retries forever when memory runs out; so it gets no retries, and lost jobs are repeated here.
    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(work)
    # The machine or worker of a job, or the machine with its result, died.
    lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError)
    before = store.states()
    running: dict[Any, _Task] = {}
    waiting = list(jobs)
    while waiting or running:
        for job in waiting[: _MAX_IN_FLIGHT - len(running)]:
            claim = store.claim(job.job_id)
            if claim is None:
                continue  # another sweep runs it: try again later
            waiting.remove(job)
            if finished_elsewhere(job, store, before):
                claim.release()
                progress.finished(job, store.record(job.job_id), None)
                continue
            running[remote.remote(job.to_json(), threads)] = _Task(job, claim, now(), retries)
        ready, _ = ray.wait(list(running), timeout=_BUSY_SECONDS) if running else ([], [])
        if not running:
            time.sleep(_BUSY_SECONDS)
        for reference in ready:
            task = running.pop(reference)
            try:
                record, files = ray.get(reference)
            except ray.exceptions.RayError as error:
                if task.retries and isinstance(error, lost):
                    again = remote.remote(task.job.to_json(), threads)
                    running[again] = replace(task, started=now(), retries=task.retries - 1)
                    continue
                store.append(_failure(task, error, ray.exceptions))
                took = None  # its start is unknown
            else:
                write_files(files, store.artifacts(task.job.job_id))
                store.append(record)
                took = seconds(record)
            task.claim.release()
            progress.finished(task.job, store.record(task.job.job_id), took)
        progress.running([task.job for task in running.values()][: progress.workers])


def _failure(task: _Task, error: Exception, kinds: Any) -> dict[str, Any]:
    record = new_record(task.job, task.started)
    if isinstance(error, kinds.OutOfMemoryError):
        return failed(record, "out_of_memory", f"Ray ended the job because its machine ran out of memory: {error}")
    return failed(record, "crash", f"Ray lost the job: {error}")


def work(job: str, threads: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Run one job in a process of its own, as a task of the cluster; return its record and image files by name."""
    description = Job.from_json(job)
    with TemporaryDirectory() as folder:
        store = ResultStore(Path(folder))
        JobProcess(description, store, threads).settle()
        record = store.record(description.job_id)
        assert record is not None  # noqa: S101 -- written by settle; no other process uses the folder
        images = store.artifacts(description.job_id).glob("*")
        return record, {file.name: file.read_bytes() for file in images}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder; of their names, only the last part counts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / Path(name).name).write_bytes(content)
