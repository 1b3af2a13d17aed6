"""Reading a results folder, also one whose last run was interrupted."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
FILE = "results.jsonl"

Record = Mapping[str, Any]


class ResultsError(ValueError):
    """A results folder that cannot be reported on; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """What a results folder holds: per job, the last record written.

    ``damaged_lines`` are the numbers (from 1) of lines that hold no whole record.
    """

    folder: Path
    finished: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    damaged_lines: list[int] = field(default_factory=list)


def read_store(folder: Path) -> Store:
    """Read ``results.jsonl``; torn lines are counted and skipped, for the jobs on the other lines are whole.

    Raises:
        ResultsError: There is no such file, nothing in it, no whole record in it, or a record of another format.
    """
    path = folder / FILE
    if not path.is_file():
        msg = f"There is no {path}. Give the folder that the benchmark wrote its results to."
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
    return Store(folder, finished, failed, damaged)


def _parse(line: str) -> Record | None:
    """The record on a line, or None where the line was torn or lacks what every table needs."""
    try:
        record = json.loads(line)
        named = isinstance(record["model"]["label"], str) and isinstance(record["data"]["label"], str)
        whole = named and {"format", "job_id", "status", "seed"} <= record.keys() and "category" in record["data"]
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
