"""Report of a build: one HTML file that needs no other file and no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from anomalib_plus import __version__
from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable
from anomalib_plus.inspector.building.outcome import Outcome
from anomalib_plus.overlays import lay_over
from anomalib_plus.report.gallery import data_uri
from anomalib_plus.report.page import embed_script, environment, read_script
from anomalib_plus.report.tables import Cell, Table
from anomalib_plus.report.words import MISSING, percent

_SIDE, _SMALL_SIDE = 640, 112
_EXAMPLES = 4
_THUMBNAILS = 240
"""Most images with a thumbnail in the explorer, those closest to the threshold."""
_MOST_REFERENCES = 200


@dataclass(frozen=True)
class Item:
    """One scored image."""

    split: str
    number: int
    image: str
    mask: str | None
    name: str
    kind: str
    is_bad: bool
    score: float

    @property
    def map_name(self) -> str:
        """Name of its map."""
        return f"{self.split}_{self.number:04d}"


class MapScale:
    """Colours of all maps (``.npy``) in a folder: one scale, so that images can be compared.

    Colours begin at the 99th percentile of the maps named by ``reference``, those of good images; 200 of them are read
    at most.
    """

    def __init__(self, folder: Path, reference: list[str]) -> None:
        self.folder = folder
        step = -(-len(reference) // _MOST_REFERENCES)
        good = np.concatenate([self.read(name).ravel() for name in reference[::step]])
        self.low = float(np.percentile(good, 99))
        tops = [float(np.load(file).max()) for file in sorted(folder.glob("*.npy"))]
        self.high = max(*tops, self.low + 1e-6)

    def read(self, name: str) -> NDArray[np.float32]:
        """Return a map (h, w)."""
        return np.load(self.folder / f"{name}.npy").astype(np.float32)

    def levels(self, name: str, size: tuple[int, int]) -> Image.Image:
        """Return a map in [0, 255] at a width and height."""
        scaled = ((self.read(name) - self.low) / (self.high - self.low)).clip(0, 1)
        return Image.fromarray((255 * scaled).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def overlay(item: Item, scale: MapScale, side: int, mask: str | None = None) -> tuple[str, str]:
    """Return an image and the same with its map over it, as data URIs of at most ``side`` pixels; outline the mask."""
    with Image.open(item.image) as opened:
        shown = opened.convert("RGB")
    shown.thumbnail((side, side))
    laid = lay_over(shown, scale.levels(item.map_name, shown.size))
    if mask is not None:
        laid = _outlined(laid, mask)
    return data_uri(shown), data_uri(laid)


def _outlined(image: Image.Image, mask: str) -> Image.Image:
    with Image.open(mask) as opened:
        inside = np.asarray(opened.convert("L").resize(image.size, Image.Resampling.BOX)) > 0
    edge = ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_dilation(inside)
    pixels = np.asarray(image).copy()
    pixels[edge] = 255
    return Image.fromarray(pixels)


def render(outcome: Outcome, work: Path) -> str:
    """Return the page; ``work`` is the folder of the build with the maps."""
    items = scored_items(outcome)
    maps = work / "finish" / outcome.chosen.folder_name / "maps"
    scale = MapScale(maps, [item.map_name for item in items if not item.is_bad])
    script = read_script() + files(__package__).joinpath("templates", "build.js").read_text(encoding="utf-8")
    context = {
        "title": f"Inspector {outcome.label}",
        "sentence": outcome.sentence(),
        "outcome": outcome,
        "facts": _facts(outcome),
        "table": candidate_table(outcome),
        "examples": _examples(outcome, items, scale),
        "explorer": explorer(outcome, items, scale),
        "version": __version__,
        **embed_script(script),
    }
    return environment(__package__).get_template("build.html.j2").render(context)


def scored_items(outcome: Outcome) -> list[Item]:
    """List the images that the model was not trained on: calibration and selection images, good and defective."""
    items = []
    for split in ("calibration", "originals", "selection"):
        for number, (entry, score) in enumerate(
            zip(outcome.splits[split], outcome.record["scores"][split], strict=True)
        ):
            if split == "selection" and not entry["label"]:
                continue  # varied or repeated originals, which would count twice
            name = printable(Path(entry["source"]).name)
            kind = {"calibration": "good, calibration", "originals": "good, selection"}.get(split, entry["kind"])
            item = Item(split, number, entry["image"], entry["mask"], name, kind, bool(entry["label"]), float(score))
            items.append(item)
    return items


def candidate_table(outcome: Outcome) -> Table:
    """Make the table of candidates: image AUROC of each round, AUPRO, their mean, speed and fate."""
    columns = ["candidate", *(f"round {n}: image AUROC (%)" for n in range(1, len(outcome.rounds) + 1))]
    columns += ["95 % interval (%)", "AUPRO (%)", "mean of both (%)", "network, one image (ms)", "what became of it"]
    labels = [*dict.fromkeys(score.label for found in reversed(outcome.rounds) for score in found.scores)]
    labels += [label for label in outcome.rounds[0].labels if label not in labels]
    rows = [_row(outcome, label) for label in labels]
    nothing = [Cell(MISSING)] * (len(columns) - 2)
    rows += [[Cell(label), *nothing, Cell(f"left out: {reason}")] for label, reason in outcome.left_out.items()]
    return Table("Candidates, best first", columns, rows, frozenset(range(1, len(columns) - 1)))


def _row(outcome: Outcome, label: str) -> list[Cell]:
    cells, last = [Cell(label)], None
    fate = "chosen" if label == outcome.label else None
    for number, found in enumerate(outcome.rounds, 1):
        score = next((score for score in found.scores if score.label == label), None)
        last = score or last
        cells.append(Cell(percent(score.auroc), score.auroc) if score else Cell(MISSING))
        if label in found.failures:
            fate = f"failed in round {number}: {found.failures[label]}"
        elif score is None and fate is None:
            fate = f"out after round {number - 1}"
    if fate is None:
        fate = "level with the best" if label in outcome.level else "behind"
    if last is None:
        return [*cells, *[Cell(MISSING)] * 4, Cell(fate)]
    interval = Cell(f"{percent(last.low)} to {percent(last.high)}", last.low)
    aupro = Cell(MISSING) if last.aupro is None else Cell(percent(last.aupro), last.aupro)
    quality = Cell(percent(last.quality), last.quality)
    return [*cells, interval, aupro, quality, Cell(f"{last.latency_ms:.1f}", last.latency_ms), Cell(fate)]


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    record = outcome.record
    return [
        ("model", outcome.label),
        ("threshold", f"{outcome.threshold:.4f}"),
        ("one image, exported", f"{record['latency_ms']:.1f} ms"),
        ("training", f"{counted(record['steps'], 'step')}, {record['seconds']:.0f} s"),
        ("score difference of the export", f"{record['difference']:.1e}"),
        ("build", f"{outcome.seconds / 60:.1f} min"),
    ]


def _examples(outcome: Outcome, items: Sequence[Item], scale: MapScale) -> list[tuple[str, list[dict[str, Any]]]]:
    """Choose the worst good images, the missed defects and the found ones, with maps over the whole images."""
    good = sorted((item for item in items if not item.is_bad), key=lambda item: -item.score)
    bad = sorted((item for item in items if item.is_bad), key=lambda item: item.score)
    missed = [item for item in bad if item.score <= outcome.threshold]
    found = [item for item in bad if item.score > outcome.threshold]
    groups = [("Good parts with the highest scores", good[:_EXAMPLES]), ("Missed defects", missed[:_EXAMPLES])]
    groups.append(("Found defects with the lowest scores", found[:_EXAMPLES]))
    return [(title, [_example(item, outcome.threshold, scale) for item in chosen]) for title, chosen in groups]


def _example(item: Item, threshold: float, scale: MapScale) -> dict[str, Any]:
    plain, laid = overlay(item, scale, _SIDE, item.mask)
    rejected = item.score > threshold
    return {
        "name": item.name,
        "kind": item.kind,
        "score": f"{item.score:.4f}",
        "decision": "rejected" if rejected else "accepted",
        "is_wrong": rejected != item.is_bad,
        "plain": plain,
        "laid": laid,
    }


def explorer(outcome: Outcome, items: Sequence[Item], scale: MapScale) -> dict[str, Any]:
    """Return the data of the threshold explorer: the threshold, the images by score, and intervals by count."""
    near = set(sorted(items, key=lambda item: abs(item.score - outcome.threshold))[:_THUMBNAILS])
    entries = [
        {
            "score": item.score,
            "bad": item.is_bad,
            "kind": item.kind,
            "calibration": item.split == "calibration",
            "name": item.name,
            "image": overlay(item, scale, _SMALL_SIDE)[1] if item in near else None,
        }
        for item in sorted(items, key=lambda item: item.score)
    ]
    good, bad = (sum(item.split == split for item in items) for split in ("originals", "selection"))
    return {
        "threshold": outcome.threshold,
        "good": outcome.held_out,
        "defective": "of your bad parts" if outcome.options.bad else "synthetic defects",
        "items": entries,
        "intervals": {
            "good": [outcome.interval(k) for k in range(good + 1)],
            "bad": [outcome.interval_found(k) for k in range(bad + 1)],
        },
    }
