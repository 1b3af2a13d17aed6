"""Outcome of a build in words and numbers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from anomalib_plus.benchmark.plan import label_of
from anomalib_plus.counts import counted
from anomalib_plus.inspector.building.candidates import Candidate
from anomalib_plus.inspector.building.command import Options
from anomalib_plus.inspector.building.findings import Finding
from anomalib_plus.inspector.building.halving import Round
from anomalib_plus.post_processing.conformal_math import clopper_pearson, smallest_rate

_LATE = 1.25
_NO_SETTINGS = {"good", "output", "masks", "workers"}
"""Options that a later build need not name: the images are compared by their content."""


@dataclass
class Outcome:
    """Everything that a build found and decided."""

    options: Options
    findings: Sequence[Finding]
    left_out: Mapping[str, str]
    """Candidates that lack something, with the reason."""
    rounds: Sequence[Round]
    chosen: Candidate
    reason: str
    """Why it was chosen."""
    tries: Sequence[str]
    """Sentences on candidates that were to be chosen before it but could not be finished."""
    record: Mapping[str, Any]
    """Result of :func:`.finish_in_process`."""
    splits: Mapping[str, Any]
    seconds: float
    """Time of the build so far."""
    changes: list[str] = field(default_factory=list)
    """Sentences on what is different from the build before."""

    @property
    def label(self) -> str:
        """Name of the chosen model."""
        return label_of(self.chosen)

    @property
    def threshold(self) -> float:
        """Score above which an image is rejected."""
        return float(self.record["threshold"])

    @property
    def rate(self) -> float:
        """False-alarm rate that the threshold is set for."""
        return max(self.options.false_alarms, smallest_rate(_parts(self.splits["calibration"])))

    @property
    def level(self) -> list[str]:
        """Candidates that are level with the best of the last round, without the chosen one."""
        return [score.label for score in self.rounds[-1].scores if score.is_level and score.label != self.label]

    def false_alarms(self) -> tuple[int, int]:
        """Rejected images and number of the good images that neither trained the model nor set the threshold."""
        scores = self.record["scores"]["originals"]
        return sum(score > self.threshold for score in scores), len(scores)

    @property
    def held_out(self) -> str:
        """Name of these good images: parts, if each shows another one."""
        images, parts = len(self.splits["originals"]), _parts(self.splits["originals"])
        return "held-out good parts" if images == parts else f"held-out good images of {counted(parts, 'part')}"

    def interval(self, rejected: int) -> tuple[float, float]:
        """Compute the 95 % interval of the rate of rejected good parts, if so many of these images are rejected."""
        return _interval(rejected, self.splits["originals"])

    def interval_found(self, hit: int) -> tuple[float, float]:
        """Compute the 95 % interval of the rate of defects that are found, if so many of these images are rejected."""
        return _interval(hit, [entry for entry in self.splits["selection"] if entry["label"]])

    def found(self) -> tuple[int, int]:
        """Rejected images and number of the defective images."""
        pairs = zip(self.record["scores"]["selection"], self.splits["selection"], strict=True)
        scores = [score for score, entry in pairs if entry["label"]]
        return sum(score > self.threshold for score in scores), len(scores)

    def sentence(self) -> str:
        """Say what was chosen and how good it is, with warnings."""
        (rejected, good), (hit, defective) = self.false_alarms(), self.found()
        low, high = self.interval(rejected)
        kind = "of your bad parts" if self.options.bad else "synthetic defects"
        sentence = (
            f"{self.label}: {rejected} of {good} {self.held_out} {_is(rejected)} rejected (95 % interval "
            f"{100 * low:.1f} to {100 * high:.1f} %; the threshold is set for {100 * self.rate:.2g} %), {hit} of "
            f"{defective} {kind} {_is(hit)} found{_level(self.level)}."
        )
        return " ".join([sentence, *self.warnings()])

    def delay(self) -> str:
        """Say on a line of its own that the build took far longer than it was to; empty if it did not."""
        if self.options.steps is not None or self.seconds <= _LATE * 60 * self.options.minutes:
            return ""
        return (
            f"\nIt took {self.seconds / 60:.1f} minutes instead of {self.options.minutes:g}: the machine was busy, or "
            "the time too short for the candidates."
        )

    def warnings(self) -> list[str]:
        """Say if it rejects or misses too much."""
        (rejected, _), (hit, defective) = self.false_alarms(), self.found()
        found = []
        if self.interval(rejected)[0] > self.rate:
            found.append(
                "It rejects more good parts than the threshold is set for: the parts differ more than the calibration "
                "images show. Give images of more parts."
            )
        if 2 * hit < defective:
            found.append(
                "It misses more than it finds: do not rely on it. Give --tile for small defects, a larger "
                "--image-size, more images or more --minutes."
            )
        return found

    def choices(self) -> list[str]:
        """List every decision with its reason, for the description of the bundle."""
        listed = [f"{finding.topic}: {finding.seen}. {finding.decided}" for finding in self.findings]
        return [*listed, *self.round_sentences(), *self.tries, self.reason, self.sentence()]

    def round_sentences(self) -> list[str]:
        """Say for each round who competed, with what budget, and who was left out."""
        sentences = []
        for number, found in enumerate(self.rounds, 1):
            best = ", ".join(f"{score.label} {100 * score.auroc:.1f} %" for score in found.scores)
            failed = "".join(f" {label} failed ({reason})." for label, reason in found.failures.items())
            sentences.append(f"Round {number}, {found.length} each: image AUROC {best}.{failed}")
        return sentences

    def summary(self, files: Mapping[str, str]) -> dict[str, Any]:
        """Return what the next build compares itself with, as JSON holds it; ``files`` are hashes by name."""
        settings = {
            f"--{name.replace('_', '-')}": value
            for name, value in asdict(self.options).items()
            if name not in _NO_SETTINGS
        }
        results = {"model": self.label, "rejected": self.false_alarms(), "found": self.found()}
        return json.loads(json.dumps({"files": dict(files), "settings": settings, **results}, default=str))


def _parts(entries: Sequence[Mapping[str, Any]]) -> int:
    """Count the parts that images show."""
    return len({entry["part"] for entry in entries})


def _interval(count: int, entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Compute the 95 % interval of a rate from the number of such images among the entries.

    Each part counts for one trial, because images of one part tend to be decided alike; each of the user's bad parts is
    taken for another one.
    """
    parts = _parts(entries)
    return clopper_pearson(count * parts / len(entries), parts)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _level(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    return f"; {' and '.join(labels)} {_is(len(labels))} level within the spread"


def changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Compare the summaries of two builds in sentences; none for a first build, which has none ``before``."""
    if before is None:
        return []
    found = _files(before["files"], now["files"])
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
