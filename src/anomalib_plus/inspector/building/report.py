"""Report of a build: one HTML file that needs no other file and no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from anomalib_plus import __version__
from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable
from anomalib_plus.inspector.building.outcome import Outcome
from anomalib_plus.inspector.building.pictures import MapScale, overlay
from anomalib_plus.post_processing.conformal_math import clopper_pearson
from anomalib_plus.report.page import embed_script, environment, read_script
from anomalib_plus.report.tables import Cell, Table
from anomalib_plus.report.words import MISSING, percent

_SIDE, _SMALL_SIDE = 640, 112
_EXAMPLES = 4
_THUMBNAILS = 240
"""Most images with a thumbnail in the explorer, those closest to the threshold."""


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
            kind = {"calibration": "good, calibration", "originals": "good"}.get(split, entry["kind"])
            item = Item(split, number, entry["image"], entry["mask"], name, kind, bool(entry["label"]), float(score))
            items.append(item)
    return items


def candidate_table(outcome: Outcome) -> Table:
    """Make the table of candidates: image AUROC of each round, AUPRO, speed and fate."""
    columns = ["candidate", *(f"round {n}: image AUROC" for n in range(1, len(outcome.rounds) + 1))]
    columns += ["95 % interval", "AUPRO", "network, one image (ms)", "what became of it"]
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
        return [*cells, *[Cell(MISSING)] * 3, Cell(fate)]
    interval = Cell(f"{percent(last.low)} to {percent(last.high)}", last.low)
    aupro = Cell(MISSING) if last.aupro is None else Cell(percent(last.aupro), last.aupro)
    return [*cells, interval, aupro, Cell(f"{last.latency_ms:.1f}", last.latency_ms), Cell(fate)]


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    record = outcome.record
    return [
        ("model", outcome.label),
        ("threshold", f"{outcome.threshold:.4f}"),
        ("one image, exported", f"{record['latency_ms']:.1f} ms"),
        ("training", f"{counted(record['steps'], 'step')}, {record['seconds']:.0f} s"),
        ("export against model", f"{record['difference']:.1e}"),
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
    plain, laid = overlay(Path(item.image), scale, item.map_name, _SIDE, Path(item.mask) if item.mask else None)
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


def _thumbnail(item: Item, scale: MapScale) -> str:
    return overlay(Path(item.image), scale, item.map_name, _SMALL_SIDE)[1]


def explorer(outcome: Outcome, items: Sequence[Item], scale: MapScale) -> dict[str, Any]:
    """Return the data of the threshold explorer: the threshold, the images by score, and intervals by count."""
    near = sorted(items, key=lambda item: abs(item.score - outcome.threshold))[:_THUMBNAILS]
    chosen = {item.map_name for item in near}
    entries = [
        {
            "score": item.score,
            "bad": item.is_bad,
            "kind": item.kind,
            "name": item.name,
            "image": _thumbnail(item, scale) if item.map_name in chosen else None,
        }
        for item in sorted(items, key=lambda item: item.score)
    ]
    good = sum(not item.is_bad for item in items)
    return {
        "threshold": outcome.threshold,
        "items": entries,
        "intervals": {
            "good": [clopper_pearson(k, good) for k in range(good + 1)],
            "bad": [clopper_pearson(k, len(items) - good) for k in range(len(items) - good + 1)],
        },
    }
