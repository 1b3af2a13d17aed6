"""Progress of a sweep: a bar on a terminal, and one line per finished job."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.record import failure_text
from anomalib_plus.image_files import printable


class SweepProgress:
    """Context manager that shows finished jobs and the time left: mean duration x jobs left / workers.

    ``done`` of the ``total`` jobs were finished before.
    """

    def __init__(self, total: int, done: int, workers: int, console: Console) -> None:
        self.console = console
        self.total, self.done, self.workers = total, done, workers
        self._seconds: list[float] = []
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("benchmark", total=total, completed=done, left="")

    def __enter__(self) -> "SweepProgress":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the last state of the bar on the screen."""
        self._bar.stop()

    def running(self, jobs: Sequence[Job]) -> None:
        """Show the titles of the running jobs."""
        titles = "; ".join(job.title for job in jobs)
        self._bar.update(self._task, description=printable(titles) or "benchmark")

    def finished(self, job: Job, record: dict[str, Any] | None, seconds: float | None) -> None:
        """Count a job and print its outcome; ``seconds`` is None if its duration is unknown."""
        self.done += 1
        if seconds is not None:
            self._seconds.append(seconds)
        took = "" if seconds is None else f", {duration(seconds)}"
        left = self.left()
        self._bar.update(self._task, completed=self.done, left=left)
        line = f"[{self.done}/{self.total}] {outcome(job, record)}{took}{left and '; '}{left}"
        self.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def left(self) -> str:
        """Return the estimated time left as text; empty while unknown."""
        rest = self.total - self.done
        if not rest:
            return "done"
        if not self._seconds:
            return ""
        return f"about {duration(mean(self._seconds) * rest / self.workers)} left"


def outcome(job: Job, record: dict[str, Any] | None) -> str:
    """Describe a finished job in one line."""
    if record is None or record["status"] != "ok":
        return f"FAILED {job.title}: {failure_text(record)}"
    metrics = record["metrics"]
    shown = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
    values = ", ".join(f"{name} {metrics[name]:.3f}" for name in shown if metrics.get(name) is not None)
    return f"{job.title}: {values}"


def duration(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
