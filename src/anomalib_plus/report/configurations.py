"""Which runs repeat each other but for the seed, and what to call them in tables."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .records import Record, category, part

_LONGEST_VALUE = 32
_BUDGETS = {
    "max_epochs": ("epoch", "epochs"),
    "max_steps": ("step", "steps"),
    "max_seconds": ("s", "s"),
    "max_cpu_seconds": ("CPU s", "CPU s"),
}


def budget_words(budget: Mapping[str, Any]) -> str:
    """A training budget as text: ``60 epochs``, ``500 steps, at most 90 s``; the model's own where nothing is set."""
    limits = [_limit_words(name, f"{budget[name]:g}") for name in _BUDGETS if budget.get(name) is not None]
    return ", at most ".join(limits) or "the model's own"


def _limit_words(name: str, number: str) -> str:
    one, many = _BUDGETS[name]
    return f"{number} {one if number == '1' else many}"


def model_name(record: Record) -> str:
    """The model's label, and its variant in brackets."""
    model = record["model"]
    return f"{model['label']} ({model['variant']})" if model.get("variant") else model["label"]


def configuration_titles(records: Iterable[Record]) -> dict[str, str]:
    """A title for every job, equal for those jobs whose results may be averaged over seeds.

    The title is the model's name. Where one category of a data set was run with several settings under one name
    (budgets, arguments, protocols), the settings that differ are added, so that they become rows of their own.
    Settings that follow the category, as some papers' recipes do, do not split a model.

    Returns:
        Titles by job id.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["data"]["label"], model_name(record)), []).append(record)
    titles = {}
    for (_, name), group in groups.items():
        differing = _differing_settings(group)
        for record in group:
            settings = _settings(record)
            details = [_setting_words(key, settings.get(key)) for key in differing]
            titles[record["job_id"]] = " · ".join([name, *details])
    return titles


def _settings(record: Record) -> dict[tuple[str, str], str]:
    """Everything but the seed that may change a result, as JSON by (part, name)."""
    data = part(record["data"], "arguments")
    sources = {
        "budget": part(record, "budget"),
        "model": part(record["model"], "arguments"),
        "protocol": part(record, "protocol"),
        "data": {name: value for name, value in data.items() if name not in {"root", "category"}},
    }
    return {
        (source, name): json.dumps(value, sort_keys=True)
        for source, values in sources.items()
        for name, value in values.items()
        if name != "seed"
    }


def _differing_settings(group: list[Record]) -> list[tuple[str, str]]:
    by_category: dict[str, list[dict[tuple[str, str], str]]] = {}
    for record in group:
        by_category.setdefault(category(record), []).append(_settings(record))
    names = dict.fromkeys(key for group_ in by_category.values() for settings in group_ for key in settings)
    return [
        key
        for key in names
        if any(len({settings.get(key) for settings in group_}) > 1 for group_ in by_category.values())
    ]


def _setting_words(key: tuple[str, str], value: str | None) -> str:
    source, name = key
    text = "unset" if value in {None, "null"} else str(value).strip('"')
    if source == "budget" and name in _BUDGETS and text != "unset":
        return _limit_words(name, text)
    if len(text) > _LONGEST_VALUE:
        text = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{name}={text}"
