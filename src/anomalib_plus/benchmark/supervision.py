"""A job's process as its parent sees it: start it, end it, and say what killed it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from anomalib_plus.benchmark.job import BUSY
from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.record import failed, new_record, now
from anomalib_plus.benchmark.store import ResultStore

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_TAIL = 4000
JOB_MODULE = "anomalib_plus.benchmark.job"
"""What ``python -m`` runs for a job."""


class JobProcess:
    """A running job. The process dies with this one: its standard input is the lifeline.

    Args:
        job: What to run.
        store: Where its record goes.
        threads: Threads of torch; None leaves the choice to torch.
        devices: Value of ``CUDA_VISIBLE_DEVICES``; None leaves it as it is.
        again: Run the job although it has failed before.
    """

    def __init__(
        self,
        job: Job,
        store: ResultStore,
        threads: int | None = None,
        devices: str | None = None,
        again: bool = False,
    ) -> None:
        self.job = job
        self.store = store
        self.started = now()
        self.begin = time.monotonic()
        self._timed_out = False
        self._former = store.record(job.job_id) if again else None  # else a record is this run's or another sweep's
        store.describe(job.job_id, job.to_json())
        command = [sys.executable, "-m", JOB_MODULE, str(store.folder), job.job_id, "--supervised"]
        if again:
            command.append("--again")
        environment = dict(os.environ)
        if threads:
            command += ["--threads", str(threads)]
            environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        if devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = devices
        self.log = store.work_file(job.job_id, "log")
        with self.log.open("ab") as log:  # another sweep's process may write to it: ours empties it once it has the job
            self.process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def poll(self) -> int | None:
        """The exit status, or None while the job runs; ends it when its time is up."""
        limit = self.job.timeout_seconds
        if limit is not None and time.monotonic() - self.begin > limit and not self._timed_out:
            self._timed_out = True
            self.end()
        return self.process.poll()

    def end(self) -> None:
        """Kill the process and all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def settle(self) -> str | None:
        """Make sure that the finished job has a record.

        Returns:
            The job's state, ``"ok"`` or ``"failed"``; None if another process has the job.
        """
        status = self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        if status == BUSY:
            return None
        record = self.store.record(self.job.job_id)
        if record is None or (record == self._former and record["status"] != "ok"):
            record = self._failure(status)
            self.store.append(record)
        return record["status"]

    def _failure(self, status: int) -> dict[str, Any]:
        record = new_record(self.job, self.started)
        tail = self.log.read_bytes()[-_TAIL:].decode(errors="replace")
        if self._timed_out:
            return failed(record, "timeout", f"Not finished after {self.job.timeout_seconds:g} seconds.", tail)
        if status == -signal.SIGKILL:
            message = "Killed by signal 9: where nobody did that, the system had run out of memory."
            return failed(record, "out_of_memory", message, tail)
        if status < 0:
            return failed(record, "crash", f"Killed by {signal.Signals(-status).name}.", tail)
        return failed(record, "crash", f"The process ended with status {status} and left no record.", tail)


def run_in_process(job: Job, folder: Path, threads: int | None = None) -> dict[str, Any]:
    """Run a job in a process of its own, in a folder of its own, and wait for its record."""
    store = ResultStore(folder)
    process = JobProcess(job, store, threads)
    try:
        while process.poll() is None:
            time.sleep(0.2)
        process.settle()
    finally:
        process.end()
    return next(record for record in store.records() if record["job_id"] == job.job_id)
