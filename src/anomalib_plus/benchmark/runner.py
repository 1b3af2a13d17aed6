"""Run the unfinished jobs of a sweep on this machine."""

import time
from collections import deque
from collections.abc import Sequence

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.benchmark.supervision import JobProcess

_POLL_SECONDS = 0.2
_BUSY_SECONDS = 2.0


def unfinished(jobs: Sequence[Job], store: ResultStore, retry_failed: bool = False) -> list[Job]:
    """Return the jobs without a record, and failed ones if ``retry_failed``."""
    states = store.states()
    enough = {"ok"} if retry_failed else {"ok", "failed"}
    return [job for job in jobs if states.get(job.job_id) not in enough]


def run_local(
    jobs: Sequence[Job],
    store: ResultStore,
    progress: SweepProgress,
    workers: int = 1,
    threads: int | None = None,
    devices: Sequence[str] = (),
) -> None:
    """Run jobs in this order, each in a process of its own, and return when all have a record.

    Jobs that another sweep on the same store is running are not repeated; this one waits for them. CUDA ``devices``
    are assigned to the workers in turn.
    """
    waiting = deque(jobs)
    not_before: dict[str, float] = {}
    running: dict[int, JobProcess] = {}
    before = store.states()
    try:
        while waiting or running:
            for slot in range(workers):
                if slot not in running and (job := _next(waiting, not_before)) is not None:
                    if finished_elsewhere(job, store, before):
                        progress.finished(job, store.record(job.job_id), None)
                        continue
                    device = devices[slot % len(devices)] if devices else None
                    running[slot] = JobProcess(job, store, threads, device, again=job.job_id in before)
                    progress.running([process.job for process in running.values()])
            for slot, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[slot]
                if process.settle() is None:  # another sweep runs it: try again later
                    not_before[process.job.job_id] = time.monotonic() + _BUSY_SECONDS
                    waiting.append(process.job)
                else:
                    progress.finished(process.job, store.record(process.job.job_id), process.seconds)
                progress.running([process.job for process in running.values()])
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running.values():
            process.end()


def _next(waiting: deque[Job], not_before: dict[str, float]) -> Job | None:
    for _ in range(len(waiting)):
        job = waiting.popleft()
        if not_before.get(job.job_id, 0.0) <= time.monotonic():
            return job
        waiting.append(job)
    return None


def finished_elsewhere(job: Job, store: ResultStore, before: dict[str, str]) -> bool:
    """Return True if another sweep has finished a job since the states ``before``."""
    state = store.states().get(job.job_id)
    return state == "ok" or (state is not None and job.job_id not in before)
