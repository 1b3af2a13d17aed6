"""Steps of a build, from the survey of the images to the finished bundle."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from anomalib_plus.benchmark.plan import Budget, ModelEntry, digest, label_of
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.counts import counted
from anomalib_plus.files import file_hash, replace_file
from anomalib_plus.inspector.building import datamodule, selection_images
from anomalib_plus.inspector.building.argument_checks import (
    check_bad_parts,
    check_folders,
    check_format,
    check_number,
    check_roi,
)
from anomalib_plus.inspector.building.candidates import Candidate, find_candidates, missing_parts
from anomalib_plus.inspector.building.command import Options
from anomalib_plus.inspector.building.findings import Finding, competition, defects, find, region
from anomalib_plus.inspector.building.finish import BUNDLE, finish_in_process
from anomalib_plus.inspector.building.halving import Halving, Round
from anomalib_plus.inspector.building.limits import (
    LEAST_END,
    RESERVE_FRACTION,
    Limits,
    default_workers,
    in_words,
    remaining_budget,
    time_finding,
)
from anomalib_plus.inspector.building.outcome import Outcome, changes
from anomalib_plus.inspector.building.ranking import Score, choose
from anomalib_plus.inspector.building.splits import Splits, divide
from anomalib_plus.inspector.building.state import BuildState, describe_work
from anomalib_plus.inspector.building.survey import Survey, survey
from anomalib_plus.inspector.bundle import ALL_FILES, INFO_FILE, read_bundle_info, write_bundle_info

LAST = "last.json"
DEFAULT_SIZE = (128, 128)
_TILED = "anomalib_plus.tiling.Tiled"
_MOST_TRIES = 3
_TILES_PER_IMAGE = 2
"""Training tiles of an image in an epoch: ``tile_batch`` of ``Tiled`` by the images of a batch."""
_LEAST_TRAINING = 8


class Build:
    """One build: :meth:`plan`, then :meth:`run`."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options, self.console = options, console
        self._started = time.monotonic()
        self.survey: Survey
        self.splits: Splits
        self.candidates: list[Candidate] = []
        self.left_out: dict[str, str] = {}
        self.bad: list[dict[str, Any]] = []
        self.findings: list[Finding] = []

    @property
    def work(self) -> Path:
        """Folder of everything but the bundle."""
        return self.options.output.resolve() / "work"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width to which images are resized."""
        if self.options.image_size is not None:
            return self.options.image_size
        if self.options.tile is None:
            return DEFAULT_SIZE
        (width, height), _ = self.survey.sizes.most_common(1)[0]
        return height, width

    @property
    def _limits(self) -> Limits:
        return Limits(60 * self.options.minutes, self.options.steps, self.options.workers or default_workers())

    @property
    def _tiles(self) -> dict[str, Any] | None:
        side = self.options.tile
        return None if side is None else {"tile": [side, side], "overlap": 0.25, "scale": 1.0}

    def _entry(self, candidate: Candidate) -> ModelEntry:
        """Return a candidate for the benchmark, on tiles if these are wanted."""
        entry, side = candidate.entry, self.options.tile
        if candidate.most_pixels is not None:
            pixels = math.prod(self.image_size) if side is None else _TILES_PER_IMAGE * side**2
            most = max(candidate.most_pixels // pixels, _LEAST_TRAINING)
            entry = replace(entry, data={**entry.data, "most_training_images": most})
        if self._tiles is None:
            return entry
        inner = {"class_path": entry.class_path, "init_args": entry.init_args}
        arguments = {"model": inner, **self._tiles}
        return replace(entry, class_path=_TILED, init_args=arguments, label=label_of(entry))

    def plan(self) -> None:
        """Survey the images and the candidates, and print what is found and decided; write nothing.

        Raises:
            ValueError: If there are too few images, no candidate, or an argument is wrong.
        """
        options = self.options
        check_folders(options.output, options.good, options.bad, options.masks)
        check_format(options.format)
        self.survey = survey(options.good, options.group_by)
        check_number(self.survey)
        check_roi(options.roi, self.survey)
        if options.tile is not None and options.tile > min(self.image_size):
            height, width = self.image_size
            msg = f"--tile {options.tile} is larger than the images ({width}x{height}): choose a smaller one, or none."
            raise ValueError(msg)
        self.splits = divide(self.survey.groups, options.false_alarms, options.seed)
        self.findings = find(self.survey, self.splits, options.false_alarms, self.image_size, options.tile)
        if options.roi is not None:
            self.findings.append(region(options.roi))
        if options.bad is not None:
            self.bad = selection_images.bad_parts(options.bad, options.masks)
            check_bad_parts(self.bad, self.survey)
        self.findings.append(defects(len(self.bad)))
        seen = self.image_size if options.tile is None else (options.tile, options.tile)
        for candidate in find_candidates(options.models):
            lack = missing_parts(candidate, seen)
            if lack is None:
                self.candidates.append(candidate)
            else:
                self.left_out[label_of(candidate)] = lack
        self.findings.append(competition([label_of(each) for each in self.candidates], self.left_out))
        self.findings.append(time_finding(len(self.candidates), self._limits))
        for finding in self.findings:
            self.console.print(f"{finding.topic}: {finding.seen}. {finding.decided}")
        if not self.candidates:
            msg = "No candidate is left: install what is named above, or choose others by --models."
            raise ValueError(msg)

    def run(self) -> None:
        """Compare the candidates, finish the best one, write bundle and report.

        Raises:
            RuntimeError: If no candidate succeeds.
        """
        store = ResultStore(self.work / "jobs")
        claim = store.claim("build")
        if claim is None:
            msg = f"Another build writes to {self.options.output}: wait for it, or choose another --output."
            raise RuntimeError(msg)
        with claim:
            self._run(store)

    def _run(self, store: ResultStore) -> None:
        splits = self._write_splits()
        data = {"root": str(self.work), "digest": splits["digest"]}
        entries = [self._entry(candidate) for candidate in self.candidates]
        limits = self._limits
        identity = [data, [asdict(entry) for entry in entries], limits.seconds, limits.steps]
        identity += [self.options.seed, self.image_size]
        state = BuildState(self.work, digest(identity), self._started)
        if state.get("finished"):
            self.console.print("This build was finished before.")
        elif state.continues:
            done = counted(len(store.records()), "training is", "trainings are")
            self.console.print(f"Going on with the build in {self.work}: {done} done.")
        tests = sorted(splits["selection"], key=lambda entry: entry["image"])
        rounds = Halving(
            entries, data, [entry["part"] for entry in tests], self.image_size,
            self.options.seed, limits, store, state, self.console,
        ).run()  # fmt: skip
        order, reason = choose(rounds[-1].scores, self.options.max_latency_ms)
        self.console.print(f"\n{reason}")
        chosen, record, tries = self._finish(order, data, limits, rounds, state)
        outcome = Outcome(
            self.options, self.findings, self.left_out, rounds, chosen, reason, tries, record, splits, state.seconds
        )
        self._deliver(outcome)
        state.put("finished", True)

    def _write_splits(self) -> dict[str, Any]:
        """Write the file of splits, and the images of the selection split if they are not there yet."""
        images, options, group_of = self.survey.images, self.options, self.survey.group_of
        hashes = {image.path: image.sha256 for image in images}
        parts = {name: [images[index].path for index in indices] for name, indices in asdict(self.splits).items()}
        roi = file_hash(options.roi) if options.roi else None
        content = [{name: [hashes[path] for path in paths] for name, paths in parts.items()}, options.seed, roi]
        content += [self.image_size, options.tile, [group_of[str(path)] for path in parts["calibration"]]]
        content += [file_hash(Path(entry[name])) for entry in self.bad for name in ("image", "mask") if entry[name]]
        content += [str(self.work)]  # a copy of the folder must not use the original's images
        key = digest(content)[:16]
        file = self.work / datamodule.FILE
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        places = {name: selection_images.good_parts(paths, group_of) for name, paths in parts.items()}
        originals = places.pop("selection")
        if known.get("digest") == key and all(Path(entry["image"]).exists() for entry in known["selection"]):
            chosen = known["selection"]
        elif self.bad:
            chosen = [*originals, *self.bad]
        else:
            self.console.print(f"Making synthetic defects on {len(originals)} images")
            chosen = selection_images.write_synthetic(
                parts["selection"],
                group_of,
                self.work / selection_images.FOLDER,
                options.seed,
                options.roi,
                self.image_size if options.tile is None else None,
            )
        splits = {"digest": key, **places, "originals": originals, "selection": chosen}
        replace_file(file, json.dumps(splits, indent=1))
        return splits

    def _finish(
        self, order: list[Score], data: Mapping[str, Any], limits: Limits, rounds: list[Round], state: BuildState
    ) -> tuple[Candidate, dict[str, Any], list[str]]:
        """Finish the first candidate of ``order`` that can be exported and is fast enough."""
        by_label = {label_of(candidate): candidate for candidate in self.candidates}
        tries: list[str] = []
        for score in order[:_MOST_TRIES]:
            candidate = by_label[score.label]
            budgets = state.get("final") or {}
            if score.label not in budgets:
                reserve = max(RESERVE_FRACTION * limits.seconds, LEAST_END)
                budgets[score.label] = asdict(remaining_budget(limits, rounds[-1].budget, state.seconds, reserve))
                state.put("final", budgets)
            budget = Budget(**budgets[score.label])
            length = "one pass over the images" if candidate.budget else in_words(asdict(budget))
            message = f"Training {score.label}, {length}; then a minute for calibration and export"
            record = finish_in_process(
                self.work / "finish" / candidate.folder_name, self._entry(candidate), data, budget,
                self._task(candidate),
                timeout_seconds=300 + 3 * (budget.max_seconds or limits.seconds),
                begin=partial(self.console.print, message),
            )  # fmt: skip
            state.save()
            problem = record["error"] or self._too_slow(record)
            if problem is None:
                return candidate, record, tries
            tries.append(f"{score.label} is not taken: {problem}")
            self.console.print(tries[-1])
        msg = "No candidate could be finished:\n  " + "\n  ".join(tries)
        raise RuntimeError(msg)

    def _too_slow(self, record: Mapping[str, Any]) -> str | None:
        limit, own = self.options.max_latency_ms, record["latency_ms"]
        if limit is None or own <= limit:
            return None
        return f"one image takes {own:.1f} ms on this machine, and the limit is {limit:g} ms"

    def _task(self, candidate: Candidate) -> dict[str, Any]:
        options = self.options
        info = {
            "name": candidate.class_path.rpartition(".")[2],
            "preset": candidate.source,
            "format": options.format,
            "image_size": self.image_size,
            "false_alarm_rate": options.false_alarms,
            "roi": "roi.png" if options.roi else None,
            "tiles": self._tiles,
            "seed": options.seed,
            "data_sha256": digest(sorted(image.sha256 for image in self.survey.images)),
        }
        return {
            "info": info,
            "image_size": self.image_size,
            "false_alarms": options.false_alarms,
            "roi": str(options.roi.resolve()) if options.roi else None,
            "format": options.format,
            "seed": options.seed,
            "threads": self._limits.threads,
        }

    def _deliver(self, outcome: Outcome) -> None:
        """Write report and bundle; the description is written last, so that a bundle is whole or unusable."""
        from anomalib_plus.inspector.building.report import render

        last = self.work / LAST
        before = json.loads(last.read_text(encoding="utf-8")) if last.exists() else None
        good = self.options.good
        now = outcome.summary({str(image.path.relative_to(good)): image.sha256 for image in self.survey.images})
        outcome.changes = changes(before, now)
        source, output = self.work / "finish" / outcome.chosen.folder_name / BUNDLE, self.options.output
        for name in ALL_FILES:
            (output / name).unlink(missing_ok=True)
        for file in source.iterdir():
            if file.name != INFO_FILE:
                shutil.copyfile(file, output / file.name)
        info = read_bundle_info(source)
        replace_file(output / "report.html", render(outcome, self.work))
        write_bundle_info(output, replace(info, choices=outcome.choices(), warnings=outcome.warnings()))
        replace_file(last, json.dumps(now, indent=1))
        self.console.print("\n".join([*outcome.changes, f"\n{outcome.sentence()}{outcome.delay()}"]))
        self.console.print(f"Inspector: {output}; report: {output / 'report.html'}\n{describe_work(self.work)}")
