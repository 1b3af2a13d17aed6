"""The results of a sweep: one JSON-lines file that survives a kill at any moment and any number of writers.

A record is one line, written and synchronised under a lock. A line that a power cut tore is cut off by the next writer
and ignored by readers. Of several records of a job, the last one counts.

Beside it stands the plan: every job that a sweep into this folder was to run, so that what a kill left undone is known.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from filelock import BaseFileLock, FileLock, Timeout

from anomalib_plus.benchmark.schema import PlanError

FILE = "results.jsonl"
PLAN = "plan.json"
ARTIFACTS = "artifacts"
WORK = "jobs"
"""Descriptions, logs and locks of the jobs; may be deleted when no sweep runs."""


class ResultStore:
    """Records and artifacts in a folder, which is created.

    Args:
        folder: Where ``results.jsonl`` and ``artifacts/`` are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        (folder / ARTIFACTS).mkdir(exist_ok=True)

    def records(self) -> list[dict[str, Any]]:
        """The last record of each job, in the order in which jobs first finished."""
        found: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            for line in self.file.read_bytes().split(b"\n"):
                if (record := _parse(line)) is not None:
                    found[record["job_id"]] = record
        return list(found.values())

    def states(self) -> dict[str, str]:
        """``"ok"`` or ``"failed"`` by job."""
        return {record["job_id"]: record["status"] for record in self.records()}

    def record(self, job_id: str) -> dict[str, Any] | None:
        """The last record of a job."""
        return next((record for record in self.records() if record["job_id"] == job_id), None)

    def append(self, record: dict[str, Any]) -> bool:
        """Add a record, unless its job has already succeeded.

        Returns:
            Whether it was added. When this returns, the record is on the disk.
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
                _synchronise_folder(self.folder)
        return True

    def plan(self) -> list[dict[str, Any]]:
        """Entries of all jobs that were ever to be run into this folder; none for folders of older versions.

        Raises:
            PlanError: If the file is damaged.
        """
        file = self.folder / PLAN
        if not file.exists():
            return []
        try:
            entries = json.loads(file.read_bytes())["jobs"]
            return [entry for entry in entries if entry["job_id"]]
        except (ValueError, LookupError, TypeError) as error:
            msg = f"{file} is damaged ({error!r}). Delete it: the next sweep writes it anew."
            raise PlanError(msg) from error

    def add_to_plan(self, entries: Iterable[dict[str, Any]]) -> None:
        """Add jobs to the plan; the file is whole at any moment, and on the disk when this returns.

        Args:
            entries: :attr:`Job.entry` of each.

        Raises:
            PlanError: If the file is damaged.
        """
        with self.lock(PLAN):
            before = self.plan()
            jobs = {entry["job_id"]: entry for entry in (*before, *entries)}
            if list(jobs.values()) == before:
                return
            unfinished = self.folder / f".{PLAN}"  # the lock keeps others from writing it
            with unfinished.open("w", encoding="utf-8") as stream:
                json.dump({"jobs": list(jobs.values())}, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(self.folder / PLAN)
            _synchronise_folder(self.folder)

    def work_file(self, job_id: str, ending: str) -> Path:
        """Return the path of a job's description (``json``), log (``log``) or lock (``lock``)."""
        return self.folder / WORK / f"{job_id}.{ending}"

    def describe(self, job_id: str, description: str) -> None:
        """Write a job's description, whole at any moment: a process of another sweep may be about to read it."""
        unfinished = self.work_file(job_id, uuid4().hex)
        unfinished.write_text(description)
        unfinished.replace(self.work_file(job_id, "json"))

    def artifacts(self, job_id: str) -> Path:
        """Folder of a job's pictures."""
        return self.folder / ARTIFACTS / job_id

    def lock(self, name: str) -> BaseFileLock:
        """Return the lock of a file or a job; it is free once its holder releases it or dies."""
        return FileLock(self.work_file(name, "lock"))

    def claim(self, job_id: str) -> BaseFileLock | None:
        """Reserve a job for this process until the returned lock is released, or the process dies.

        Returns:
            None if another process has it.
        """
        lock = self.lock(job_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "job_id" in record and "status" in record else None


def _cut_torn_line(stream: BinaryIO) -> None:
    """Complete the last line if only its end is missing, else cut it off."""
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


def _synchronise_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
