"""Read a results folder, also after an interrupted run."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomalib_plus.benchmark.papers import PUBLISHED_FILE
from anomalib_plus.benchmark.record import FORMAT
from anomalib_plus.benchmark.store import FILE, is_named, read_plan
from anomalib_plus.counts import counted

Record = Mapping[str, Any]
PaperNumbers = Mapping[tuple[str, str, str], float]
"""Numbers of the papers, in [0, 1], by (name of the model's class, category, metric)."""


class ResultsError(ValueError):
    """Error in a results folder; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """Content of a results folder: the last record of each job.

    ``damaged_lines`` are the numbers (from 1) of lines without a complete record. ``missing`` are the planned jobs
    without a record; None if the folder has no plan, as in older versions.
    """

    folder: Path
    finished: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    damaged_lines: list[int] = field(default_factory=list)
    missing: list[Record] | None = None

    @property
    def planned(self) -> int | None:
        """Number of planned jobs; None if unknown."""
        return None if self.missing is None else len(self.finished) + len(self.failed) + len(self.missing)

    @property
    def shortfall(self) -> str | None:
        """Sentence on missing jobs; None if none are known to be missing."""
        if not self.missing:
            return None
        have = "has" if len(self.missing) == 1 else "have"
        return (
            f"{len(self.missing)} of {counted(self.planned or 0, 'planned job')} {have} no result: the sweep was "
            "interrupted or is still running. The command that started it resumes it."
        )


def read_store(folder: Path) -> Store:
    """Read ``results.jsonl``; incomplete lines are counted and skipped.

    Raises:
        ResultsError: If the file is missing, empty, without a complete record or of another format.
        PlanError: If the plan is damaged.
    """
    path = folder / FILE
    plan = read_plan(folder)
    if not path.is_file():
        msg = f"There is no {path}. Give the results folder of a benchmark."
        if plan:
            msg = f"There is no {path}: of {counted(len(plan), 'planned job')}, none has finished yet."
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
            jobs.pop(record["job_id"], None)  # a repeated job has the place of its last run
            jobs[record["job_id"]] = record
    if not jobs:
        msg = f"{path} has no complete record, only {counted(len(damaged), 'damaged line')}. Run the benchmark again."
        raise ResultsError(msg)
    finished = [record for record in jobs.values() if record["status"] == "ok"]
    failed = [record for record in jobs.values() if record["status"] != "ok"]
    missing: list[Record] | None = None if plan is None else [entry for entry in plan if entry["job_id"] not in jobs]
    return Store(folder, finished, failed, damaged, missing)


def read_published(folder: Path) -> PaperNumbers:
    """Read the papers' numbers, which the benchmark wrote; empty for results of earlier versions.

    Raises:
        ResultsError: If the file is damaged.
    """
    path = folder / PUBLISHED_FILE
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            (entry["model"].rpartition(".")[2], entry["category"], entry["metric"]): value
            for entry in entries
            if (value := finite(entry["value"])) is not None
        }
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"{path} is damaged: delete it, and run the benchmark again, which writes a new one."
        raise ResultsError(msg) from error


def _parse(line: str) -> Record | None:
    """Parse a line; None if it is incomplete or lacks a required key."""
    try:
        record = json.loads(line)
        whole = is_named(record) and {"format", "job_id", "status", "seed"} <= record.keys()
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return record if whole else None


def part(record: Record, name: str) -> Mapping[str, Any]:
    """Return an object inside a record, empty if it is missing."""
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def parts(record: Record, name: str) -> list[Mapping[str, Any]]:
    """Return a list of objects inside a record, empty if it is missing."""
    value = record.get(name)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def pairs(values: Mapping[str, Any], first: str, second: str) -> list[tuple[float, float]]:
    """Return the pairs of two lists of numbers inside an object, without those of which one is not finite."""
    lists = [value if isinstance(value := values.get(name), list) else [] for name in (first, second)]
    numbers = zip(*(map(finite, one) for one in lists), strict=False)
    return [(a, b) for a, b in numbers if a is not None and b is not None]


def category(record: Record) -> str:
    """Return the category as text; ``all`` for data sets without categories."""
    value = record["data"]["category"]
    return "all" if value is None else str(value)


def finite(value: Any) -> float | None:
    """Return a finite number as float; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
