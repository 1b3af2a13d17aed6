"""Child process of a job."""

from anomalib_plus.benchmark.job import BUSY
from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.process import ModuleProcess
from anomalib_plus.benchmark.record import failed, new_record, now
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.files import replace_file

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_TAIL = 4000
JOB_MODULE = "anomalib_plus.benchmark.job"
"""Module that runs a job."""


class JobProcess(ModuleProcess):
    """Running job.

    ``threads`` are those of torch (None: its default), ``devices`` the value of ``CUDA_VISIBLE_DEVICES`` (None: the
    inherited one). ``again`` runs the job although it has failed before.
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
        self.log = store.work_file(job.job_id, "log")  # another sweep may be writing to it: the job empties it
        self._former = store.record(job.job_id) if again else None  # otherwise, any record is new
        replace_file(store.work_file(job.job_id, "json"), job.to_json())
        options = ["--again"] if again else []
        environment = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
        if threads:
            options += ["--threads", str(threads)]
            environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        arguments = [str(store.folder), job.job_id, *options]
        super().__init__(JOB_MODULE, arguments, self.log, job.timeout_seconds, environment)

    def settle(self) -> str | None:
        """Wait for the end of the job and write its record if it left none.

        Returns its state, ``"ok"`` or ``"failed"``; None if another process runs the job.
        """
        if self.wait() == BUSY:
            return None
        record = self.store.record(self.job.job_id)
        if record is None or (record == self._former and record["status"] != "ok"):
            tail = self.log.read_bytes()[-_TAIL:].decode(errors="replace")
            record = failed(new_record(self.job, self.started), *self.failure(), tail)
            self.store.append(record)
        return record["status"]
