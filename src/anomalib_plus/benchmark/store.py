"""Store of a sweep's results: a JSON-lines file that survives kills and takes several writers.

A record is one line, written and synchronised under a lock. A line that is incomplete after a power cut is ignored by
readers and removed by the next writer. If a job has several records, the last one counts.

The plan beside it lists every job of the sweeps into this folder, so that missing jobs are known.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from filelock import BaseFileLock, FileLock, Timeout

from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.files import replace_file, synchronise_folder

FILE = "results.jsonl"
PLAN = "plan.json"
ARTIFACTS = "artifacts"
WORK = "jobs"
"""Folder of the jobs' descriptions, logs and locks; may be deleted when no sweep runs."""


class ResultStore:
    """Records (``results.jsonl``) and ``artifacts/`` in a folder, which is created."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        (folder / ARTIFACTS).mkdir(exist_ok=True)

    def records(self) -> list[dict[str, Any]]:
        """Return the last record of each job, in the order in which the jobs first finished."""
        found: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            for line in self.file.read_bytes().split(b"\n"):
                if (record := _parse(line)) is not None:
                    found[record["job_id"]] = record
        return list(found.values())

    def states(self) -> dict[str, str]:
        """Return ``"ok"`` or ``"failed"`` by job."""
        return {record["job_id"]: record["status"] for record in self.records()}

    def record(self, job_id: str) -> dict[str, Any] | None:
        """Return the last record of a job."""
        return next((record for record in self.records() if record["job_id"] == job_id), None)

    def append(self, record: dict[str, Any]) -> bool:
        """Add a record, unless its job has already succeeded.

        Returns:
            True if it was added; then it is on the disk.
        """
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with self.lock(FILE):
            is_new = not self.file.exists()
            with self.file.open("a+b") as stream:
                _cut_torn_line(stream)
                if self.states().get(record["job_id"]) == "ok":
                    return False
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            if is_new:
                synchronise_folder(self.folder)
        return True

    def add_to_plan(self, entries: Iterable[dict[str, Any]]) -> None:
        """Add the :attr:`Job.entry` of jobs to the plan, which is then on the disk; a PlanError if it is damaged."""
        with self.lock(PLAN):
            before = read_plan(self.folder) or []
            jobs = {entry["job_id"]: entry for entry in (*before, *entries)}
            if list(jobs.values()) != before:
                replace_file(self.folder / PLAN, json.dumps({"jobs": list(jobs.values())}, indent=1))

    def work_file(self, job_id: str, ending: str) -> Path:
        """Return the path of a job's description (``json``), log (``log``) or lock (``lock``)."""
        return self.folder / WORK / f"{job_id}.{ending}"

    def artifacts(self, job_id: str) -> Path:
        """Return the folder of a job's images."""
        return self.folder / ARTIFACTS / job_id

    def lock(self, name: str) -> BaseFileLock:
        """Return the lock of a file or a job; it is released when its holder dies."""
        return FileLock(self.work_file(name, "lock"))

    def claim(self, job_id: str) -> BaseFileLock | None:
        """Reserve a job until the returned lock is released or this process dies; None if another process has it."""
        lock = self.lock(job_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock


def read_plan(folder: Path) -> list[dict[str, Any]] | None:
    """Return the :attr:`Job.entry` of all jobs of the sweeps into a folder; None for folders of older versions.

    Raises:
        PlanError: If the file is damaged.
    """
    file = folder / PLAN
    if not file.exists():
        return None
    try:
        entries = json.loads(file.read_bytes())["jobs"]
        whole = all(is_named(entry) and {"job_id", "seed"} <= entry.keys() for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError):
        whole = False
    if not whole:
        msg = f"{file} is damaged. Delete it: the next sweep writes a new one, and the report does not need it."
        raise PlanError(msg)
    return entries


def is_named(record: Any) -> bool:
    """Return True if model, data set and category are named; raise a LookupError or TypeError if one is missing."""
    named = isinstance(record["model"]["label"], str) and isinstance(record["data"]["label"], str)
    return named and "category" in record["data"]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "job_id" in record and "status" in record else None


def _cut_torn_line(stream: BinaryIO) -> None:
    """Add the missing end of a whole last line, or remove an incomplete one."""
    stream.seek(0)
    content = stream.read()
    start = content.rfind(b"\n") + 1
    tail = content[start:]
    if not tail:
        return
    if _parse(tail) is not None:
        stream.write(b"\n")
    else:
        stream.truncate(start)
    stream.flush()
