"""Titles for groups of runs that differ in the seed only."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anomalib_plus.benchmark.plan import with_variant
from anomalib_plus.report.records import Record, category, part

_LONGEST_VALUE = 32
_IGNORED = {"data": {"root", "category"}, "trainer": {"accelerator"}}
"""Settings that do not distinguish runs of a model: location of the data, category, kind of device."""
_BUDGETS = {
    "max_epochs": ("epoch", "epochs"),
    "max_steps": ("step", "steps"),
    "max_seconds": ("s", "s"),
    "max_cpu_seconds": ("CPU s", "CPU s"),
}


def budget_words(budget: Mapping[str, Any]) -> str:
    """Describe a training budget: ``60 epochs`` or ``500 steps, at most 90 s``; "the model's own" without limits."""
    limits = [_limit_words(name, f"{budget[name]:g}") for name in _BUDGETS if budget.get(name) is not None]
    return ", at most ".join(limits) or "the model's own"


def _limit_words(name: str, number: str) -> str:
    one, many = _BUDGETS[name]
    return f"{number} {one if number == '1' else many}"


def model_name(record: Record) -> str:
    """Return the model's label, with its variant in brackets."""
    return with_variant(record["model"]["label"], record["model"].get("variant"))


def configuration_titles(records: Iterable[Record]) -> dict[str, str]:
    """Return a title for every job; jobs with equal titles are averaged over seeds.

    The title is the model's name. If a category was run with several settings under one name (budgets, arguments,
    protocols, trainers, classes), the settings that differ are added, so that each gets its own row. Settings that
    depend on the category only, as in some papers' recipes, are not added. Runs of one seed that differ in the location
    of the data only get the job's id.

    Returns:
        Titles by job id.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["data"]["label"], model_name(record)), []).append(record)
    titles = {}
    for (_, name), group in groups.items():
        settings = [_settings(record) for record in group]
        differing = _differing_settings(group, settings)
        for record, own in zip(group, settings, strict=True):
            details = [_setting_words(key, own.get(key)) for key in differing if _contains(record, key)]
            titles[record["job_id"]] = " · ".join([name, *details])
        titles |= _titles_with_ids(group, titles)
    return titles


def _titles_with_ids(group: Iterable[Record], titles: Mapping[str, str]) -> dict[str, str]:
    """Add job ids to titles that share category and seed; tables would otherwise show the last one only."""
    places: dict[tuple[str, ...], list[str]] = {}
    for record in group:
        place = (titles[record["job_id"]], category(record), str(record["seed"]))
        places.setdefault(place, []).append(record["job_id"])
    return {job: f"{titles[job]} · {job}" for jobs in places.values() if len(jobs) > 1 for job in jobs}


def _settings(record: Record) -> dict[tuple[str, str], str]:
    """Collect all settings but the seed that may change a result, as JSON by (part, name)."""
    sources = {
        "class": {name: record[name].get("class_path") for name in ("model", "data")},
        "budget": part(record, "budget"),
        "model": part(record["model"], "arguments"),
        "protocol": part(record, "protocol"),
        "data": part(record["data"], "arguments"),
        "trainer": part(record, "trainer"),
    }
    return {
        (source, name): json.dumps(value, sort_keys=True)
        for source, values in sources.items()
        for name, value in values.items()
        if name not in _IGNORED.get(source, set()) | {"seed"}
    }


def _differing_settings(
    group: Sequence[Record], settings: Sequence[Mapping[tuple[str, str], str]]
) -> list[tuple[str, str]]:
    """Find the settings with several values within a category."""
    differing = []
    for key in dict.fromkeys(key for own in settings for key in own):
        values: dict[str, set[str | None]] = {}
        for record, own in zip(group, settings, strict=True):
            if _contains(record, key):
                values.setdefault(category(record), set()).add(own.get(key))
        if any(len(found) > 1 for found in values.values()):
            differing.append(key)
    return differing


def _contains(record: Record, key: tuple[str, str]) -> bool:
    """Return True if a record contains a setting; early versions did not store the trainer."""
    return key[0] != "trainer" or "trainer" in record


def _setting_words(key: tuple[str, str], value: str | None) -> str:
    source, name = key
    text = "unset" if value in {None, "null"} else str(value).strip('"')
    if source == "budget" and name in _BUDGETS and text != "unset":
        return _limit_words(name, text)
    if source == "class":
        return text
    if len(text) > _LONGEST_VALUE:
        text = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{name}={text}"
