"""Run the jobs of a sweep on a Ray cluster; needs ``pip install ".[ray]"`` on every machine.

Each job is a Ray task that reserves CPUs and GPUs and runs the job in a process of its own, so that a crash is a result
here too. Data and weights must lie at the same paths on every machine; the store is only touched by the process that
started the sweep, which receives record and pictures. A job whose machine dies is repeated elsewhere.
"""

import io
import math
import os
import time
import zipfile
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
from anomalib_plus.benchmark.supervision import run_in_process

_BUSY_SECONDS = 2.0
_MAX_IN_FLIGHT = 200
"""Jobs handed to Ray at a time; each holds a file open here."""


@dataclass(frozen=True)
class Share:
    """Resources of a machine for one job.

    Args:
        threads: CPUs; None for all that come with its GPUs, or for cores / workers where it takes none.
        gpus: GPUs; a fraction lets jobs share one.
        workers: Jobs at a time on a machine, where neither threads nor GPUs say so.
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
    wish: Share = Share(),
    retries: int = 3,
    address: str | None = None,
) -> None:
    """Run jobs on a cluster and return when all have a record.

    Args:
        jobs: What to run.
        store: Where records go.
        progress: Told of every finished job.
        wish: CPUs and GPUs that each job reserves and uses.
        retries: How often a job is repeated whose machine or Ray worker died.
        address: Of the cluster (``auto`` for the one that runs here); None starts one on this machine.

    Raises:
        PlanError: If Ray is not installed, or no machine of the cluster has what a job needs.
    """
    try:
        import ray
    except ImportError as error:
        msg = '--runner ray needs Ray: pip install ".[ray]" in a clone of anomalib-plus.'
        raise PlanError(msg) from error
    start = {"address": address} if address else {"include_dashboard": False}
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(**start, log_to_driver=False)
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        threads = threads_per_job(wish, machines)
        progress.workers = max(sum(_room(machine, threads, wish.gpus) for machine in machines), 1)
        _run(ray, jobs, store, progress, threads, wish.gpus, retries)
    finally:
        if started_here:
            ray.shutdown()


def threads_per_job(wish: Share, machines: Sequence[Mapping[str, float]]) -> int:
    """Return the CPUs that a job reserves: as many as wished, else as every machine that can run it has to spare.

    Args:
        wish: Resources of a job.
        machines: ``CPU`` and ``GPU`` of each, as Ray counts them.

    Raises:
        PlanError: If no machine has enough; Ray would wait for one silently.
    """
    least = wish.threads or 1
    able = [machine for machine in machines if _room(machine, least, wish.gpus)]
    if not able:
        there = "; ".join(f"{_count(machine, 'CPU'):g} CPUs, {_count(machine, 'GPU'):g} GPUs" for machine in machines)
        msg = (
            f"A job needs {least} CPUs and {wish.gpus:g} GPUs; the machines of the Ray cluster have {there or 'none'}."
        )
        raise PlanError(msg)
    return wish.threads or min(_fair_threads(machine, wish) for machine in able)


def _fair_threads(machine: Mapping[str, float], wish: Share) -> int:
    jobs = _count(machine, "GPU") / wish.gpus if wish.gpus else wish.workers
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
    # Ray's own retries have no end where memory runs out, so it gets none and we repeat what its machine took along.
    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(work)
    before = store.states()
    running: dict[Any, _Task] = {}
    waiting = list(jobs)
    while waiting or running:
        for job in waiting[: _MAX_IN_FLIGHT - len(running)]:
            claim = store.claim(job.job_id)
            if claim is None:
                continue  # another sweep has it: look again later
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
                record, pictures = ray.get(reference)
            except ray.exceptions.RayError as error:
                if task.retries and _is_lost(error, ray.exceptions):
                    again = remote.remote(task.job.to_json(), threads)
                    running[again] = replace(task, started=now(), retries=task.retries - 1)
                    continue
                store.append(_failure(task, error, ray.exceptions))
                took = None  # unknown since when it ran
            else:
                unpack(pictures, store.artifacts(task.job.job_id))
                store.append(record)
                took = seconds(record)
            task.claim.release()
            progress.finished(task.job, store.record(task.job.job_id), took)
        progress.running([task.job for task in running.values()][: progress.workers])


def _is_lost(error: Exception, kinds: Any) -> bool:
    """True if a job's machine or worker died, or the machine that had its result."""
    return isinstance(error, (kinds.WorkerCrashedError, kinds.NodeDiedError, kinds.ObjectLostError))


def _failure(task: _Task, error: Exception, kinds: Any) -> dict[str, Any]:
    record = new_record(task.job, task.started)
    if isinstance(error, kinds.OutOfMemoryError):
        return failed(record, "out_of_memory", f"Ray ended the job, for its machine had run out of memory: {error}")
    return failed(record, "crash", f"Ray lost the job: {error}")


def work(job: str, threads: int) -> tuple[dict[str, Any], bytes]:
    """Run one job in a process of its own; this is the task of the cluster.

    Returns:
        The record, and the pictures as a ZIP archive.
    """
    description = Job.from_json(job)
    with TemporaryDirectory() as folder:
        record = run_in_process(description, Path(folder), threads)
        return record, pack(ResultStore(Path(folder)).artifacts(description.job_id))


def pack(folder: Path) -> bytes:
    """The files of a folder as a ZIP archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(folder.glob("*")):
            archive.write(file, file.name)
    return content.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Write the files of a ZIP archive from :func:`pack` to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            (folder / os.path.basename(name)).write_bytes(archive.read(name))  # noqa: PTH119 -- names only
