"""Selection of a model by successive halving: a short round for all, a longer one for the better half."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from anomalib_plus.benchmark.plan import Budget, DataEntry, Job, ModelEntry, Sweep, expand, label_of
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.record import failure_text, seconds
from anomalib_plus.benchmark.runner import run_local, unfinished
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.counts import counted
from anomalib_plus.inspector.building.limits import (
    FIRST_OVERHEAD,
    LAST_ROUND,
    LEAST_SECONDS,
    RESERVE_FRACTION,
    ROUNDS_FRACTION,
    Limits,
    in_words,
    rounds_of,
)
from anomalib_plus.inspector.building.ranking import Score, choose, compare
from anomalib_plus.inspector.building.state import BuildState

_RUNNERS_UP, _LONGER = 2, 1.5
"""Most runners-up in a last round, and how many times as long as before they must be able to train in it."""
_TIMEOUT = 300.0
"""Seconds of a job beside three times its training, after which it hangs, even on a busy machine."""
_METRICS = ("image_auroc", "aupro")
_DATA = "anomalib_plus.inspector.building.datamodule.SplitData"


@dataclass
class Round:
    """Candidates of a round, what each training may use, and what came of it."""

    labels: list[str]
    budget: dict[str, Any]
    scores: list[Score] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_one_pass: bool = False
    """True if all learn in one pass over the images, whatever the budget."""

    @property
    def length(self) -> str:
        """Length of each training in words."""
        return "one pass over the images" if self.is_one_pass else in_words(self.budget)


class _Progress(SweepProgress):
    """Progress that saves the time spent after each job."""

    state: BuildState

    def finished(self, job: Job, record: dict[str, Any] | None, seconds: float | None) -> None:
        super().finished(job, record, seconds)
        self.state.save()


class Halving:
    """Rounds of jobs on the selection images.

    ``data`` are the arguments of :class:`.SplitData`, ``sources`` the parts that the test images show, in the order of
    their paths: images of one part are drawn together.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        data: Mapping[str, Any],
        sources: Sequence[str],
        image_size: tuple[int, int],
        seed: int,
        limits: Limits,
        store: ResultStore,
        state: BuildState,
        console: Console,
    ) -> None:
        self.entries = {label_of(entry): entry for entry in entries}
        self.data, self.sources, self.image_size, self.seed = data, sources, image_size, seed
        self.limits, self.store, self.state, self.console = limits, store, state, console

    def run(self) -> list[Round]:
        """Run all rounds and return them; the last one has the candidates to choose from.

        Raises:
            RuntimeError: If every candidate of a round failed.
        """
        rounds: list[Round] = []
        labels = list(self.entries)
        while labels:
            found = self._round(len(rounds), labels)
            rounds.append(found)
            if not found.scores:
                listing = "\n".join(f"  {label}: {reason}" for label, reason in found.failures.items())
                msg = (
                    f"Every candidate failed; the logs are in {self.store.folder}. Repair the cause, and run the same "
                    f"command again:\n{listing}"
                )
                raise RuntimeError(msg)
            labels = self._next(rounds)
        return rounds

    def _next(self, rounds: Sequence[Round]) -> list[str]:
        """Return the candidates of the next round; none when one can be chosen.

        A build that goes on computes them anew, because a candidate that had failed may have succeeded now.
        """
        found, planned = rounds[-1], self.state.get("rounds")
        if planned[len(rounds) - 1]["is_last"] or len(found.scores) == 1:
            return []
        is_planned = len(rounds) < len(planned)
        if self.state.get("final") and not is_planned:
            return []
        if len(found.labels) <= LAST_ROUND:
            return self._runners_up(found, is_planned)
        better = [score.label for score in found.scores[: math.ceil(len(found.labels) / 2)]]
        return better if is_planned or self._is_longer(better, found) else []

    def _is_longer(self, labels: Sequence[str], found: Round) -> bool:
        """Return True unless these candidates would train for a shorter time than in the last round."""
        if self.limits.steps is not None or all(self.entries[label].budget for label in labels):
            return True
        return self._budget(0, labels, is_last=False).max_seconds >= found.budget["max_seconds"]

    def _runners_up(self, found: Round, is_planned: bool) -> list[str]:
        """Return the chosen candidate and the runners-up for a last round, if it leaves time that they can use."""
        chosen = choose(found.scores, None)[0][0].label
        timed = [score.label for score in found.scores if self.entries[score.label].budget is None][:_RUNNERS_UP]
        if self.entries[chosen].budget is None or not timed:
            return []
        has_time = self.limits.steps is not None or (
            self._last_seconds(len(timed)) >= _LONGER * found.budget["max_seconds"]
        )
        return [chosen, *timed] if is_planned or has_time else []

    def _last_seconds(self, timed: int) -> float:
        """Seconds of training in a last round: half of what is left, because the winner may have to train again."""
        left = (1 - RESERVE_FRACTION) * self.limits.seconds - self.state.seconds
        return left / 2 / self._waves(timed) - self._overhead()

    def _waves(self, timed: int) -> int:
        """Number of trainings that a worker does one after the other; one at least."""
        return max(math.ceil(timed / self.limits.workers), 1)

    def _round(self, number: int, labels: list[str]) -> Round:
        planned = self.state.get("rounds") or []
        if number >= len(planned):
            is_last = number > 0 and len(planned[-1]["labels"]) <= LAST_ROUND
            budget = self._budget(number, labels, is_last)
            planned = [*planned, {"labels": labels, "budget": asdict(budget), "is_last": is_last}]
        planned[number]["labels"] = labels
        self.state.put("rounds", planned)
        budget = Budget(**planned[number]["budget"])
        found = Round(labels, planned[number]["budget"], is_one_pass=all(self.entries[each].budget for each in labels))
        self.console.print(f"\nRound {number + 1}, training of {found.length} each: {', '.join(labels)}")
        jobs = dict(zip(labels, self._jobs(labels, budget), strict=True))
        self._run_jobs(list(jobs.values()), budget)
        for label, job in jobs.items():
            record = self.store.record(job.job_id)
            if record is not None and record["status"] == "ok":
                found.records[label] = record
            else:
                found.failures[label] = failure_text(record)
        if found.records:
            found.scores = self._compare(found.records)
        return found

    def _jobs(self, labels: Sequence[str], budget: Budget) -> list[Job]:
        sweep = Sweep(
            models=tuple(self.entries[label] for label in labels),
            data=(DataEntry(_DATA, ("comparison",), dict(self.data), "build", category_argument="use"),),
            seeds=(self.seed,),
            budget=budget,
            protocol=Protocol(image_size=self.image_size, metrics=_METRICS),
            trainer={"accelerator": "auto", "devices": 1},
            timeout_seconds=_TIMEOUT + 3 * (budget.max_seconds or self.limits.seconds),
            gallery=0,
        )
        return expand(sweep)

    def _run_jobs(self, jobs: Sequence[Job], budget: Budget) -> None:
        """Run the jobs that have no result yet, and once more those that failed in an earlier run of the build."""
        self.store.add_to_plan(job.entry for job in jobs)
        todo = unfinished(jobs, self.store, retry_failed=True)
        workers = min(self.limits.workers, max(len(todo), 1))
        self._announce(jobs, todo, workers, budget)
        progress = _Progress(len(jobs), len(jobs) - len(todo), workers, self.console)
        progress.state = self.state
        with progress:
            run_local(todo, self.store, progress, workers, self.limits.threads)
        self.state.save()

    def _announce(self, jobs: Sequence[Job], todo: Sequence[Job], workers: int, budget: Budget) -> None:
        """Say what runs, and when the first line on it follows."""
        known = self.store.states()
        failed = [job.model["label"] for job in todo if job.job_id in known]
        sentences = []
        if len(todo) < len(jobs):
            sentences.append(f"{counted(len(jobs) - len(todo), 'result is', 'results are')} there and used again.")
        if failed:
            sentences.append(f"Failed before, tried once more: {', '.join(failed)}.")
        if todo:
            timed = [job for job in todo if self.entries[job.model["label"]].budget is None]
            when = "when one is trained and tested"
            if budget.max_seconds and timed:
                when = f"after about {budget.max_seconds + self._overhead():.0f} seconds"
            at_a_time = f", {workers} at a time" if workers < len(todo) else ""
            sentences.append(f"{counted(len(todo), 'candidate')}{at_a_time}; the first result follows {when}.")
        self.console.print(" ".join(sentences))

    def _budget(self, number: int, labels: Sequence[str], is_last: bool) -> Budget:
        """Share what is left for the rounds: equally among the rounds, and within one among its jobs."""
        if self.limits.steps is not None:
            return Budget(max_steps=self.limits.steps * 2**number)
        timed = [label for label in labels if self.entries[label].budget is None]
        if is_last:
            return Budget(max_seconds=round(self._last_seconds(len(timed)), 1))
        left = ROUNDS_FRACTION * self.limits.seconds - self.state.seconds
        overhead = self._overhead()
        for_timed = left / rounds_of(len(labels)) - overhead * (len(labels) - len(timed)) / self.limits.workers
        return Budget(max_seconds=round(max(for_timed / self._waves(len(timed)) - overhead, LEAST_SECONDS), 1))

    def _overhead(self) -> float:
        """Median seconds of the finished jobs beside their training."""
        finished = [record for record in self.store.records() if record["costs"]["fit_seconds"] is not None]
        if not finished:
            return FIRST_OVERHEAD
        return max(0.0, float(np.median([seconds(record) - record["costs"]["fit_seconds"] for record in finished])))

    def _compare(self, records: Mapping[str, dict[str, Any]]) -> list[Score]:
        labels = next(iter(records.values()))["scores"]["labels"]
        latencies = {label: record["costs"]["latency_ms_batch1"] for label, record in records.items()}
        operations = {label: record["costs"]["gmacs"] for label, record in records.items()}
        repeatable = self.limits.steps is not None and None not in operations.values()
        return compare(
            {label: np.array(record["scores"]["values"]) for label, record in records.items()},
            np.array(labels, bool),
            self.sources,
            {label: record["metrics"]["aupro"] for label, record in records.items()},
            latencies,
            operations if repeatable else latencies,
            self.seed,
        )
