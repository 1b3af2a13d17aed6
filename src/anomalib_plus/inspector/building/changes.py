"""What is different from the build before."""

from collections.abc import Mapping
from typing import Any


def changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Compare the summaries of two builds; empty for a first build.

    Args:
        before: Summary of the build before; None if this is the first.
        now: Summary of this one.
    """
    if before is None:
        return []
    found = [*_files(before["files"], now["files"])]
    for name, value in now["settings"].items():
        if (old := before["settings"].get(name)) != value:
            found.append(f"{name} was {_text(old)} and is {_text(value)}.")
    if before["model"] != now["model"]:
        found.append(f"The model was {before['model']} and is {now['model']}.")
    for name, what in (("rejected", "Rejected held-out good parts"), ("found", "Defects found")):
        if before[name] != now[name]:
            (old, of_old), (new, of_new) = before[name], now[name]
            found.append(f"{what}: {old} of {of_old} before, {new} of {of_new} now.")
    return found or ["Nothing is different from the build before."]


def _files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    new, gone = len(now.keys() - before.keys()), len(before.keys() - now.keys())
    edited = sum(before[name] != now[name] for name in before.keys() & now.keys())
    if not (new or gone or edited):
        return []
    return [f"Images of good parts: {new} new, {gone} gone, {edited} with another content."]


def _text(value: Any) -> str:
    if value is None or value == []:
        return "not given"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
