"""The heatmap gallery: pictures of a results folder, made small and put into the page itself."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from .records import Record, finite, part, parts

KINDS = {
    "worst_good": "highest score",
    "random_good": "at random",
    "worst": "lowest score",
    "best": "highest score",
    "random": "at random",
}
"""What kinds of examples are called, in the order in which they are shown."""
_ROLES = {
    "input": "input",
    "mask": "ground truth",
    "overlay": "anomaly map",
    "map": "anomaly map",
    "reconstruction": "reconstruction",
}
_QUALITY = 78


@dataclass(frozen=True)
class PictureLimits:
    """How many pictures the page holds and how large.

    ``per_kind`` examples of each kind, model and category, but not more than ``examples`` in all; ``pixels`` on the
    longer side of a picture.
    """

    per_kind: int = 2
    pixels: int = 144
    examples: int = 400


@dataclass(frozen=True)
class Picture:
    """A picture with its role; ``uri`` is a data URI, None where the file is missing or no picture."""

    role: str
    alt: str
    uri: str | None
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Example:
    """A test image: why it was chosen, what it is, the decision on it and whether that is wrong, and its pictures."""

    kind: str
    path: str
    truth: str
    score: str
    decision: str
    is_wrong: bool
    pictures: list[Picture]


def choose(records: Iterable[Record], limits: PictureLimits) -> tuple[dict[str, list[Mapping[str, Any]]], int]:
    """Choose the entries to show of each record's gallery.

    Where there are too many in all, first ones of their kind go before second ones, whatever the record.

    Returns:
        Entries by job id, in the order of :data:`KINDS`, and how many are left out to keep the page small.
    """
    kinds = list(KINDS)
    found: list[tuple[int, int, str, Mapping[str, Any]]] = []
    for record in records:
        counts: dict[str, int] = {}
        for entry in parts(record, "gallery"):
            kind = str(entry.get("kind"))
            counts[kind] = counts.get(kind, 0) + 1
            if counts[kind] <= limits.per_kind:
                place = kinds.index(kind) if kind in kinds else len(kinds)
                found.append((counts[kind], place, record["job_id"], entry))
    found.sort(key=lambda each: each[:2])
    chosen: dict[str, list[Mapping[str, Any]]] = {}
    for _, _, job, entry in sorted(found[: limits.examples], key=lambda each: each[1]):
        chosen.setdefault(job, []).append(entry)
    return chosen, max(len(found) - limits.examples, 0)


def example(entry: Mapping[str, Any], record: Record, model: str, folder: Path, size: int) -> Example:
    """An entry of a gallery with its pictures, at most ``size`` pixels wide and high."""
    path = str(entry.get("path") or "unnamed")
    files = entry.get("files")
    names = dict(files) if isinstance(files, Mapping) else {}
    if names.get("overlay"):
        names.pop("map", None)
    pictures = [
        _picture(folder, str(names[role]), title, f"{title} of {path}, {model}", size)
        for role, title in _ROLES.items()
        if names.get(role)
    ]
    score = finite(entry.get("score"))
    truth = {"0": "good", "1": "defective"}.get(str(entry.get("label")), "unlabelled")
    number = "no score" if score is None else f"score {score:.4g}"
    limit = threshold(record)
    decision, is_wrong = "", False
    if score is not None and limit is not None:
        decision = "rejected" if score > limit else "accepted"
        is_wrong = (truth, decision) in {("good", "rejected"), ("defective", "accepted")}
    kind = str(entry.get("kind"))
    return Example(KINDS.get(kind, kind), path, truth, number, decision, is_wrong, pictures)


def threshold(record: Record) -> float | None:
    """The score above which an image is rejected; None in records of older versions."""
    return finite(part(record, "threshold").get("value"))


def decisions(record: Record) -> str | None:
    """A sentence on the run's decisions about all test images; None where the record has no threshold."""
    limit, scores = threshold(record), part(record, "scores")
    if limit is None:
        return None
    values, labels = _numbers(scores.get("values")), _numbers(scores.get("labels"))
    pairs = [(value, label) for value, label in zip(values, labels, strict=False) if None not in (value, label)]
    rejected = {kind: [value > limit for value, label in pairs if label == kind] for kind in (0, 1)}  # type: ignore[operator]
    source = part(record, "threshold").get("source")
    accepted = [not each for each in rejected[1]]
    origin = f" ({source})" if source else ""
    return (
        f"Threshold {limit:.4g}{origin}: {sum(rejected[0])} of {len(rejected[0])} good images are rejected, "
        f"{sum(accepted)} of {len(accepted)} defective ones accepted."
    )


def _numbers(values: Any) -> Sequence[float | None]:
    return [finite(value) for value in values] if isinstance(values, list) else []


def _picture(folder: Path, name: str, role: str, alt: str, size: int) -> Picture:
    try:
        path = (folder / name).resolve()
        # A results folder from elsewhere must not reveal files of this machine, nor make us wait for a pipe.
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return Picture(role, alt, None)
        with Image.open(path, formats=["PNG"]) as opened:  # what the benchmark writes
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError):
        return Picture(role, alt, None)
    picture.thumbnail((size, size))
    stream = BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY)
    uri = f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return Picture(role, alt, uri, picture.width, picture.height)
