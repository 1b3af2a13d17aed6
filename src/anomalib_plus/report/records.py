"""Reading a results folder, also one whose last run was interrupted."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
FILE = "results.jsonl"
PLAN = "plan.json"

Record = Mapping[str, Any]


class ResultsError(ValueError):
    """A results folder that cannot be reported on; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """What a results folder holds: per job, the last record written.

    ``damaged_lines`` are the numbers (from 1) of lines that hold no whole record. ``missing`` are the entries of
    planned jobs without a record, None where the folder has no plan, as those of older versions.
    """

    folder: Path
    finished: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    damaged_lines: list[int] = field(default_factory=list)
    missing: list[Record] | None = None

    @property
    def planned(self) -> int | None:
        """How many jobs there should be; None where nobody knows."""
        return None if self.missing is None else len(self.finished) + len(self.failed) + len(self.missing)

    @property
    def shortfall(self) -> str | None:
        """A sentence on jobs that are missing; None where nothing is known to be missing."""
        if not self.missing:
            return None
        have = "has" if len(self.missing) == 1 else "have"
        return (
            f"{len(self.missing)} of {self.planned} planned jobs {have} no result: the sweep was interrupted or is "
            "still running. The command that started it resumes it."
        )


def read_store(folder: Path) -> Store:
    """Read ``results.jsonl``; torn lines are counted and skipped, for the jobs on the other lines are whole.

    Raises:
        ResultsError: There is no such file, nothing in it, no whole record in it, a record of another format, or a
            damaged plan.
    """
    path = folder / FILE
    plan = _read_plan(folder / PLAN)
    if not path.is_file():
        msg = f"There is no {path}. Give the folder that the benchmark wrote its results to."
        if plan:
            msg = f"There is no {path}: none of the {len(plan)} planned jobs has finished yet."
        raise ResultsError(msg)
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    written = {number: line for number, line in enumerate(lines, start=1) if line.strip()}
    if not written:
        msg = f"{path} is empty: no job has finished yet."
        raise ResultsError(msg)
    jobs: dict[str, Record] = {}
    damaged = []
    for number, line in written.items():
        record = _parse(line)
        if record is None:
            damaged.append(number)
        elif record["format"] != FORMAT:
            msg = f"{path}, line {number} has format {record['format']}; this version reads format {FORMAT}."
            raise ResultsError(msg)
        else:
            jobs.pop(record["job_id"], None)  # a repeated job takes the place of its last run in the order, too
            jobs[record["job_id"]] = record
    if not jobs:
        msg = f"{path} holds no whole record: all of its {len(damaged)} lines are damaged."
        raise ResultsError(msg)
    finished = [record for record in jobs.values() if record["status"] == "ok"]
    failed = [record for record in jobs.values() if record["status"] != "ok"]
    missing = None if plan is None else [entry for entry in plan if entry["job_id"] not in jobs]
    return Store(folder, finished, failed, damaged, missing)


def _read_plan(path: Path) -> list[Record] | None:
    """The entries of the plan, or None where there is no plan."""
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        whole = all(_is_named(entry) and {"job_id", "seed"} <= entry.keys() for entry in entries)
    except (ValueError, TypeError, LookupError, AttributeError):
        whole = False
    if not whole:
        msg = f"{path} is damaged. Delete it for a report that does not say which jobs are missing."
        raise ResultsError(msg)
    return entries


def _is_named(record: Any) -> bool:
    """Whether model, data set and category are there; raises an error of lookup where there is no such thing."""
    named = isinstance(record["model"]["label"], str) and isinstance(record["data"]["label"], str)
    return named and "category" in record["data"]


def _parse(line: str) -> Record | None:
    """The record on a line, or None where the line was torn or lacks what every table needs."""
    try:
        record = json.loads(line)
        whole = _is_named(record) and {"format", "job_id", "status", "seed"} <= record.keys()
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return record if whole else None


def part(record: Record, name: str) -> Mapping[str, Any]:
    """An object inside a record, empty where the record has none."""
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def parts(record: Record, name: str) -> list[Mapping[str, Any]]:
    """A list of objects inside a record, empty where the record has none."""
    value = record.get(name)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def category(record: Record) -> str:
    """The category as text; data sets without categories have ``all``."""
    value = record["data"]["category"]
    return "all" if value is None else str(value)


def finite(value: Any) -> float | None:
    """A number as float; None for everything that is no finite number (also for truth values)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
