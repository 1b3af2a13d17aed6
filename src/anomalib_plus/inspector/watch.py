"""anomalib-plus watch: inspect each image that appears in a folder, for as long as the station runs."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

from anomalib_plus.image_files import printable
from anomalib_plus.inspector.drift import Drift
from anomalib_plus.inspector.images import Key, images_in
from anomalib_plus.inspector.inspection import Inspector
from anomalib_plus.inspector.regions import save_overlay
from anomalib_plus.inspector.result_row import RESULT_COLUMNS, TEXTS, inspect_file
from anomalib_plus.inspector.table import ResultTable, append_text, as_json_line, remove_incomplete_line
from anomalib_plus.option_types import between

_COLUMNS = ("file", "modified", "time", *RESULT_COLUMNS, "warning")


class Station:
    """Results of a bundle for the images of an inbox, in ``results.csv``, ``results.jsonl`` and ``overlays``.

    Everything else follows from ``results.csv``: the images that are done, missing lines of ``results.jsonl``, and the
    drift tests. ``present`` are the images in the inbox.

    Raises:
        OSError: If the results cannot be read and written.
        ValueError: If ``results.csv`` is another table, or another process writes to it.
    """

    def __init__(self, inspector: Inspector, outbox: Path, present: dict[Key, Path]) -> None:
        self._inspector = inspector
        self._overlays = outbox / "overlays"
        self._json_lines = outbox / "results.jsonl"
        self.drift = Drift(inspector.info)
        outbox.mkdir(parents=True, exist_ok=True)
        self._table = ResultTable(outbox / "results.csv", _COLUMNS)
        remove_incomplete_line(self._json_lines)
        with self._json_lines.open("rb") as file:
            written = sum(1 for _ in file)
        self._done: set[Key] = set()
        for number, row in enumerate(self._table.rows()):
            if (key := (row["file"], row["modified"])) in present:
                self._done.add(key)
            if number >= written:
                append_text(self._json_lines, as_json_line(row, TEXTS))
            self.drift.add(row)

    def close(self) -> None:
        """Let other processes write the results."""
        self._table.close()

    def missing(self, present: dict[Key, Path]) -> list[Key]:
        """Return those of the present images that have no row yet, in their order; forget all that are not present."""
        self._done.intersection_update(present)
        return [key for key in present if key not in self._done]

    def inspect(self, key: Key, path: Path) -> dict[str, str]:
        """Inspect an image and write its overlay and row.

        Raises:
            OSError: If writing fails, for example on a full disk. The image is then inspected again.
        """
        result, overlay = inspect_file(self._inspector, path, with_overlay=True)
        if overlay is not None:
            save_overlay(overlay, self._overlays, Path(path.name))
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        result["warning"] = self.drift.add(result)
        row = self._table.append({"modified": key[1], "time": now, **result, "file": path.name})
        append_text(self._json_lines, as_json_line(row, TEXTS))
        self._done.add(key)
        return row


def watch(inspector: Inspector, inbox: Path, outbox: Path, stop: threading.Event, interval: float | None = 1.0) -> None:
    """Inspect the images of an inbox until ``stop`` is set.

    An image is inspected when it has not changed for an interval, because it may still be incomplete before. With
    ``interval`` None, the images that are there are inspected at once, and that is all.

    Raises:
        OSError: If the inbox cannot be read at the start, or results cannot be written.
        ValueError: If the results are another table, or another process writes to them.
    """
    images = images_in(inbox)
    unchanged = images if interval is None else {}
    with closing(Station(inspector, outbox, images)) as station:
        announce(f"watching {inbox}, rejecting scores above {inspector.info.threshold:g}, results in {outbox}")
        for warning in station.drift.warnings:
            announce("warning:", warning)
        while not stop.is_set():
            for key in station.missing(images):
                if key in unchanged and not stop.is_set():
                    _report(station.inspect(key, images[key]))
            if interval is None:
                return
            unchanged = images
            stop.wait(interval)
            images = _look_again(inbox, images)
    announce("stopped")


def _report(row: dict[str, str]) -> None:
    announce(*(row[name] for name in ("file", "score", "decision", "problem") if row[name]))
    if row["warning"]:
        announce("warning:", row["warning"])


def announce(*parts: object) -> None:
    """Print the time and ``parts`` as one line, with characters escaped that the console cannot show."""
    time = datetime.now().astimezone().isoformat(timespec="seconds")
    line = " ".join([time, *(printable(str(part)) for part in parts)])
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run a station until SIGTERM or Ctrl-C.

    Returns:
        The exit status 0. Wrong arguments, an unusable bundle and results that cannot be written exit with status 2.
    """
    parser = argparse.ArgumentParser(prog="anomalib-plus watch", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder with inspector.json")
    parser.add_argument("inbox", type=Path, metavar="INBOX", help="folder in which images appear")
    parser.add_argument("outbox", type=Path, metavar="OUTBOX", help="folder for the results")
    parser.add_argument("--once", action="store_true", help="inspect the images in INBOX and end with status 0")
    parser.add_argument(
        "--interval",
        type=between(0, threading.TIMEOUT_MAX),
        default=1.0,
        help="seconds between looks into INBOX (default: 1)",
    )
    options = parser.parse_args(arguments)
    if not options.inbox.is_dir():
        parser.error(f"there is no folder {printable(options.inbox)} to watch: create it, or correct the path")
    if options.outbox.resolve() == options.inbox.resolve():
        parser.error(f"{printable(options.outbox)} is the inbox: choose another folder for the results")
    try:
        with _stopped_by_signals() as stop:
            interval = None if options.once else options.interval
            inspector = Inspector.load(options.bundle)
            for warning in inspector.info.warnings:
                sys.stderr.write(f"warning of the build: {warning}\n")
            watch(inspector, options.inbox, options.outbox, stop, interval)
    except OSError as error:
        parser.error(f"{error}. What is done is kept: repair this, and the same command continues")
    except ValueError as error:
        parser.error(str(error))
    return 0


def _look_again(inbox: Path, images: dict[Key, Path]) -> dict[Key, Path]:
    """List the inbox; keep the last list while it cannot be read, as a network drive at times cannot."""
    try:
        return images_in(inbox)
    except OSError as error:
        announce("cannot read the inbox, will try again:", error)
        return images


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Let SIGTERM and SIGINT set an event, so that the current image is finished."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
