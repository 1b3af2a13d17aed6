"""Protocols, environments and arguments; values that differ are listed with their models."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from anomalib_plus.report.records import Record, part
from anomalib_plus.report.summary import Summary


@dataclass(frozen=True)
class Setting:
    """Named setting with its values, each with the models that use it (empty if there is one value)."""

    name: str
    values: list[tuple[str, list[str]]]


def protocol(summary: Summary) -> list[Setting]:
    """Collect the rules of the evaluation."""
    return _settings(summary, lambda record: part(record, "protocol"))


def environment(summary: Summary) -> list[Setting]:
    """Collect versions, device, revision and weights, without values that are different for each job."""
    found = _settings(summary, lambda record: part(record, "environment"))
    return [setting for setting in found if setting.name != "config sha256"]


def model_arguments(summary: Summary) -> dict[str, list[Setting]]:
    """Collect the arguments of each model."""
    found = {}
    for model in summary.models():
        own = summary.of_model(summary.records, model)
        found[model] = _collect(own, lambda record: part(record["model"], "arguments"), _data_and_category)
    return found


def _settings(summary: Summary, read: Callable[[Record], Mapping[str, Any]]) -> list[Setting]:
    return _collect(summary.records, read, lambda record: summary.titles[record["job_id"]])


def _collect(
    records: Iterable[Record], read: Callable[[Record], Mapping[str, Any]], owner: Callable[[Record], str]
) -> list[Setting]:
    values: dict[str, dict[str, dict[str, None]]] = {}  # by name and text; the innermost is an ordered set of owners
    for record in records:
        for name, value in read(record).items():
            values.setdefault(name, {}).setdefault(_text(value), {})[owner(record)] = None
    found = []
    for name, by_text in values.items():
        owned = [(text, list(owners) if len(by_text) > 1 else []) for text, owners in by_text.items()]
        found.append(Setting(name.replace("_", " "), owned))
    return found


def _data_and_category(record: Record) -> str:
    return f"{record['data']['label']} {record['data']['category'] or ''}".strip()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
        return (" × " if len(value) == 2 and all(isinstance(e, int) for e in value) else ", ").join(map(str, value))  # noqa: RUF001
    return "none" if value is None else json.dumps(value)
