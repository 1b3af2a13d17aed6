"""Heatmap gallery: images of a results folder, reduced and embedded in the page."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from anomalib_plus.counts import counted
from anomalib_plus.report.records import Record, finite, pairs, part, parts

KINDS = {
    "worst_good": "highest score",
    "random_good": "at random",
    "worst": "lowest score",
    "best": "highest score",
    "random": "at random",
}
"""Names of the kinds of examples, in the order in which they are shown."""
_ROLES = {
    "input": "input",
    "mask": "ground truth",
    "overlay": "anomaly map",
    "map": "anomaly map",
    "reconstruction": "reconstruction",
}
_QUALITY = 78


@dataclass(frozen=True)
class GalleryLimits:
    """Limits of the gallery: ``per_kind`` examples of each kind, model and category, ``examples`` in all.

    ``pixels`` is the longer side of an image.
    """

    per_kind: int = 2
    pixels: int = 144
    examples: int = 400


@dataclass(frozen=True)
class EmbeddedImage:
    """Image with its role; ``uri`` is a data URI, None if the file is missing or cannot be read."""

    role: str
    alt: str
    uri: str | None
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Example:
    """Test image with its kind, ground truth, score and decision, and the images of it."""

    kind: str
    path: str
    truth: str
    score: str
    decision: str
    is_wrong: bool
    images: list[EmbeddedImage]


def choose(records: Iterable[Record], limits: GalleryLimits) -> tuple[dict[str, list[Mapping[str, Any]]], int]:
    """Choose the gallery entries to show of each record.

    If there are too many, the first ones of each kind are preferred, in all records alike.

    Returns:
        Entries by job id, in the order of :data:`KINDS`, and the number of entries left out.
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
    """Convert a gallery entry, with images of at most ``size`` pixels wide and high."""
    path = str(entry.get("path") or "unnamed")
    names = part(entry, "files")
    images = [
        _embed(folder, str(names[role]), title, f"{title} of {path}, {model}", size)
        for role, title in _ROLES.items()
        if names.get(role) and not (role == "map" and names.get("overlay"))
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
    return Example(KINDS.get(kind, kind), path, truth, number, decision, is_wrong, images)


def threshold(record: Record) -> float | None:
    """Return the score above which an image is rejected; None in records of older versions."""
    return finite(part(record, "threshold").get("value"))


def decisions(record: Record) -> str | None:
    """Describe the run's decisions on all test images; None if the record has no threshold."""
    limit, known = threshold(record), pairs(part(record, "scores"), "values", "labels")
    if limit is None:
        return None
    rejected = [value > limit for value, label in known if label == 0]
    accepted = [value <= limit for value, label in known if label == 1]
    source = part(record, "threshold").get("source")
    origin = f" ({source})" if source else ""
    good = f"of {counted(len(rejected), 'good image')}"
    alarms = counted(sum(rejected), f"{good} is", f"{good} are")
    return (
        f"Threshold {limit:.4g}{origin}: {alarms} rejected, {sum(accepted)} of {len(accepted)} defective ones accepted."
    )


def _embed(folder: Path, name: str, role: str, alt: str, size: int) -> EmbeddedImage:
    try:
        path = (folder / name).resolve()
        # A results folder from elsewhere must not read other files of this machine, nor block on a pipe.
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return EmbeddedImage(role, alt, None)
        with Image.open(path, formats=["PNG"]) as opened:  # what the benchmark writes
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError):
        return EmbeddedImage(role, alt, None)
    image.thumbnail((size, size))
    return EmbeddedImage(role, alt, data_uri(image), image.width, image.height)


def data_uri(image: Image.Image) -> str:
    """Encode an image for a page."""
    stream = BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
