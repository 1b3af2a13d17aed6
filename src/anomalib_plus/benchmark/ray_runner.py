"""Run the jobs of a sweep on a Ray cluster; needs ``pip install "anomalib-plus[ray]"`` on every machine.

Each job is a Ray task that reserves CPUs and GPUs and runs the job in a process of its own, so that a crash is a result
here too. Data and weights must lie at the same paths on every machine; the store is only touched by the process that
started the sweep, which gets record and pictures sent back. A job whose machine dies is repeated elsewhere.
"""

import io
import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.record import failed, new_record, now
from anomalib_plus.benchmark.runner import finished_elsewhere
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.benchmark.supervision import run_in_process

_BUSY_SECONDS = 2.0
_MAX_IN_FLIGHT = 200
"""Jobs handed to Ray at a time; each holds a file open here."""


def run_on_ray(
    jobs: Sequence[Job],
    store: ResultStore,
    progress: SweepProgress,
    threads: int = 1,
    gpus: float = 0.0,
    retries: int = 3,
    address: str | None = None,
) -> None:
    """Run jobs on a cluster and return when all have a record.

    Args:
        jobs: What to run.
        store: Where records go.
        progress: Told of every finished job.
        threads: CPUs that each job reserves and uses.
        gpus: GPUs that each job reserves; a fraction lets jobs share one.
        retries: How often a job is repeated whose machine or Ray worker died.
        address: Of the cluster (``auto`` for the one that runs here); None starts one on this machine.

    Raises:
        PlanError: If Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        msg = '--runner ray needs Ray: pip install "anomalib-plus[ray]".'
        raise PlanError(msg) from error
    start = {"address": address} if address else {"include_dashboard": False}
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(**start, log_to_driver=False)
    cores = ray.cluster_resources().get("CPU", 1)
    progress.workers = max(int(cores // threads), 1)
    try:
        _run(ray, jobs, store, progress, threads, gpus, retries)
    finally:
        if started_here:
            ray.shutdown()


def _run(
    ray: Any,
    jobs: Sequence[Job],
    store: ResultStore,
    progress: SweepProgress,
    threads: int,
    gpus: float,
    retries: int,
) -> None:
    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=retries)(work)
    before = store.states()
    running: dict[Any, tuple[Job, Any, str, float]] = {}
    waiting = list(jobs)
    while waiting or running:
        for job in waiting[: _MAX_IN_FLIGHT - len(running)]:
            claim = store.claim(job.job_id)
            if claim is None:
                continue  # another sweep has it: look again later
            waiting.remove(job)
            if finished_elsewhere(job, store, before):
                claim.close()
                progress.finished(job, store.record(job.job_id), 0.0)
                continue
            running[remote.remote(job.to_json(), threads)] = job, claim, now(), time.monotonic()
        ready, _ = ray.wait(list(running), timeout=_BUSY_SECONDS) if running else ([], [])
        if not running:
            time.sleep(_BUSY_SECONDS)
        for reference in ready:
            job, claim, started, begin = running.pop(reference)
            try:
                record, pictures = ray.get(reference)
            except ray.exceptions.RayError as error:
                store.append(failed(new_record(job, started), "crash", f"Ray lost the job: {error}"))
            else:
                unpack(pictures, store.artifacts(job.job_id))
                store.append(record)
            claim.close()
            progress.finished(job, store.record(job.job_id), time.monotonic() - begin)
        progress.running([job for job, *_ in running.values()])


def work(job: str, threads: int) -> tuple[dict[str, Any], bytes]:
    """What runs on the cluster: one job in a process of its own.

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
