"""Stands in for a benchmark's job in tests of the runner: takes milliseconds and fails in the way its model asks for.

It appends a line to ``jobs/JOB_ID.runs`` when it starts to work, so that a test can count how often it ran.
"""

import os
import signal
import sys
import time

from anomalib_plus.benchmark import job
from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.record import failed, new_record, now


def make_job(seed=0, timeout=None, label="Stub", **wish):
    return Job(
        model={"label": label, "class_path": "x.Stub", "arguments": wish, "variant": None},
        data={"label": "Data", "class_path": "x.Data", "category": "c", "arguments": {}},
        seed=seed,
        budget={"max_epochs": 1, "max_steps": None, "max_seconds": None, "max_cpu_seconds": None},
        protocol={"image_size": [64, 64]},
        trainer={},
        timeout_seconds=timeout,
    )


def work(description, store, threads=None):
    with store.work_file(description.job_id, "runs").open("a") as runs:
        runs.write("run\n")
    wish = description.model["arguments"]
    time.sleep(wish.get("sleep", 0))
    if "error" in wish:
        return failed(new_record(description, now()), "exception", wish["error"])
    if wish.get("signal"):
        os.kill(os.getpid(), getattr(signal, wish["signal"]))
    if "status" in wish:
        sys.stderr.write("something went wrong\n")
        os._exit(wish["status"])
    record = new_record(description, now())
    record["metrics"]["image_auroc"] = description.seed / 100
    return record


if __name__ == "__main__":
    job.run_job = work
    sys.exit(job.main())
