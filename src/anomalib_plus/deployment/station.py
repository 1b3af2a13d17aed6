"""Parts of an inspection station that runs for months: what lies in its inbox, and a table that outlives crashes."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from anomalib.data.utils.image import is_image_file

from anomalib_plus.data.image_files import printable

Key = tuple[str, str]
"""Name of a file, as a table shows it, and the time of its last change: another image of the same name is another.

The time is in ISO 8601, UTC, to the microsecond.
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def images_in(folder: Path) -> dict[Key, Path]:
    """List the files with names of images, links that lead nowhere included, by name.

    Raises:
        OSError: If the folder cannot be read.
    """
    found = {}
    for path in filter(is_image_file, sorted(folder.iterdir())):
        with suppress(FileNotFoundError):  # taken away meanwhile
            changed = path.stat(follow_symlinks=path.exists()).st_mtime_ns
            found[_harmless(path.name), _date(changed)] = path
    return found


def announce(*parts: object) -> None:
    """Write a line with the time to the console; whatever the parts hold, it is one line that the console can show."""
    time = datetime.now().astimezone().isoformat(timespec="seconds")
    line = " ".join([time, *(printable(str(part)) for part in parts)])
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


class VerdictTable:
    """A CSV file that only grows, by one physical line for each image.

    What a crash left of a last line is removed, and its image judged again.

    Args:
        path: The file. It is made where it does not exist, and gone on with where it does.
        columns: Names of what follows the image's name and time.

    Raises:
        OSError: If the file cannot be read and written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = tuple(columns)
        with path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            file.truncate(len(whole))
        # Line by line, so that a quotation mark that nothing closes cannot take the lines after it along.
        lines = whole.decode(errors="replace").splitlines()
        self._done: set[tuple[str, ...]] = {tuple(next(csv.reader([line]), [])[:2]) for line in lines}
        if not whole:
            self._append(["file", "modified", *columns])

    def missing(self, images: Iterable[Key]) -> list[Key]:
        """Which of the images that are there now have no line yet, in their order; others are forgotten."""
        present = list(images)
        self._done.intersection_update(present)
        return [key for key in present if key not in self._done]

    def add(self, key: Key, verdict: Mapping[str, object]) -> None:
        """Write the line of an image.

        Args:
            key: The image.
            verdict: What stands in the columns; those that it does not name stay empty.

        Raises:
            OSError: If that fails, on a full disk for one.
        """
        values = [verdict.get(column, "") for column in self._columns]
        self._append([*key, *(_harmless(value) if isinstance(value, str) else value for value in values)])
        self._done.add(key)

    def _append(self, row: Sequence[object]) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(row)


def _date(nanoseconds: int) -> str:
    """The date in ISO 8601; for one that the calendar does not reach, the seconds since 1970."""
    try:
        return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat(timespec="microseconds")
    except OverflowError:
        return str(nanoseconds / 1e9)


def _harmless(text: str) -> str:
    """One line, and for spreadsheets no formula."""
    line = printable(text)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
