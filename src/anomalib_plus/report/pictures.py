"""The heatmap gallery: pictures of a results folder, made small and put into the page itself."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from .records import Record, finite, parts

ROLES = {"input": "input", "mask": "ground truth", "map": "anomaly map", "reconstruction": "reconstruction"}
_QUALITY = 78


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
    """A test image: why it was chosen, what it is, and its pictures."""

    kind: str
    path: str
    truth: str
    score: str
    pictures: list[Picture]


def examples(record: Record, model: str, folder: Path, per_kind: int, size: int) -> list[Example]:
    """The first ``per_kind`` examples of each kind of a run, their pictures at most ``size`` pixels wide and high."""
    found: list[Example] = []
    counts: dict[str, int] = {}
    for entry in parts(record, "gallery"):
        kind = str(entry.get("kind"))
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] > per_kind:
            continue
        path = str(entry.get("path") or "unnamed")
        files = entry.get("files")
        files = files if isinstance(files, Mapping) else {}
        pictures = [
            _picture(folder, str(files[role]), title, f"{title} of {path}, {model}", size)
            for role, title in ROLES.items()
            if files.get(role)
        ]
        score = finite(entry.get("score"))
        truth = {"0": "good", "1": "defective"}.get(str(entry.get("label")), "unlabelled")
        number = "no score" if score is None else f"score {score:.4g}"
        found.append(Example(kind, path, truth, number, pictures))
    return found


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
