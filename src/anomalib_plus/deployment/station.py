"""Parts of an inspection station that runs for months: listing of its inbox, and a table that survives crashes."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from anomalib.data.utils.image import is_image_file

from anomalib_plus.image_files import printable

Key = tuple[str, str]
"""File name as in the table, and time of the last change in ISO 8601, UTC, to the microsecond.

The time tells apart images that had the same name.
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def images_in(folder: Path) -> dict[Key, Path]:
    """List image files by name, broken links included.

    Raises:
        OSError: If the folder cannot be read.
    """
    found = {}
    for path in filter(is_image_file, sorted(folder.iterdir())):
        with suppress(FileNotFoundError):  # removed meanwhile
            changed = path.stat(follow_symlinks=path.exists()).st_mtime_ns
            found[_escape(path.name), _format_time(changed)] = path
    return found


def announce(*parts: object) -> None:
    """Print the time and ``parts`` as one line, with characters escaped that the console cannot show."""
    time = datetime.now().astimezone().isoformat(timespec="seconds")
    line = " ".join([time, *(printable(str(part)) for part in parts)])
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


class ResultTable:
    """Append-only CSV file with one physical line per image.

    An incomplete last line, left by a crash, is removed, so that its image is predicted again.

    Args:
        path: The file, which is created or continued.
        columns: Names of the columns after the image's name and time.

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
        # Line by line, so that an unclosed quotation mark affects its own line only.
        lines = whole.decode(errors="replace").splitlines()
        self._done: set[tuple[str, ...]] = {tuple(next(csv.reader([line]), [])[:2]) for line in lines}
        if not whole:
            self._append(["file", "modified", *columns])

    def missing(self, images: Iterable[Key]) -> list[Key]:
        """Return those of the present images that have no line yet, in their order; forget all that are not present."""
        present = list(images)
        self._done.intersection_update(present)
        return [key for key in present if key not in self._done]

    def add(self, key: Key, result: Mapping[str, object]) -> None:
        """Append the line of an image.

        Args:
            key: The image.
            result: Values by column; missing ones stay empty.

        Raises:
            OSError: If writing fails, for example on a full disk.
        """
        values = [result.get(column, "") for column in self._columns]
        self._append([*key, *(_escape(value) if isinstance(value, str) else value for value in values)])
        self._done.add(key)

    def _append(self, row: Sequence[object]) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(row)


def _format_time(nanoseconds: int) -> str:
    """Format a time in ISO 8601, or as seconds since 1970 if ``datetime`` cannot represent it."""
    try:
        return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat(timespec="microseconds")
    except OverflowError:
        return str(nanoseconds / 1e9)


def _escape(text: str) -> str:
    """Make a text one line that spreadsheets do not interpret as a formula."""
    line = printable(text)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
