"""Tables that survive crashes: results in CSV, one physical line per image, and JSON lines."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from filelock import FileLock, Timeout

from anomalib_plus.image_files import printable

_BLOCK = 1 << 16


class ResultTable:
    """Append-only CSV file with one physical line per image, which is created or continued.

    An incomplete last line, left by a crash, is removed, so that its image is inspected again. Other processes cannot
    write to the table as long as this one runs.

    Raises:
        OSError: If the file cannot be read and written.
        ValueError: If the file is no table of these columns, or another process writes to it.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = tuple(columns)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            msg = f"Another process writes to {printable(path)}: stop it, or choose another output."
            raise ValueError(msg) from error
        try:
            self._check_header()
            remove_incomplete_line(path)
            if path.stat().st_size == 0:
                append_text(path, _line(self._columns))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes write to the table."""
        self._lock.release()

    def rows(self) -> Iterator[dict[str, str]]:
        """Read the rows as they are written; damaged lines have empty or wrong values."""
        # Line by line, so that an unclosed quotation mark affects its own line only.
        with self.path.open(encoding="utf-8", errors="replace", newline="") as file:
            next(file)
            for line in file:
                cells = next(csv.reader([line]), [])
                yield dict(zip_longest(self._columns, cells[: len(self._columns)], fillvalue=""))

    def append(self, values: Mapping[str, object]) -> dict[str, str]:
        """Append values by column, missing ones empty, and return the row as :meth:`rows` will read it.

        Texts are written as :func:`as_cell` returns them. If writing fails, the table is as before.
        """
        row = {column: str(values.get(column, "")) for column in self._columns}
        row |= {column: as_cell(value) for column, value in values.items() if isinstance(value, str)}
        append_text(self.path, _line(list(row.values())))
        return row

    def _check_header(self) -> None:
        expected = _line(self._columns).encode()
        with self.path.open("a+b") as file:
            file.seek(0)
            found = file.read(len(expected))
        if found not in (expected, expected[: len(found)]):
            msg = (
                f"{printable(self.path)} is no table of this version, with the columns {', '.join(self._columns)}: "
                "choose another output, or remove it."
            )
            raise ValueError(msg)


def append_text(path: Path, text: str) -> None:
    """Append a text completely or, with an ``OSError`` such as on a full disk, not at all."""
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, io.SEEK_END)
        content = text.encode()
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(before)
            raise


def remove_incomplete_line(path: Path) -> None:
    """Truncate a file, which is created if missing, after its last line break."""
    with path.open("a+b") as file:
        end = file.seek(0, io.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        file.truncate(end)


def as_json_line(row: Mapping[str, str], texts: Sequence[str]) -> str:
    """Convert a row, cells by column, to a line of JSON: ``texts`` name the columns that hold no numbers.

    Empty and infinite numbers become null.
    """
    values = {name: cell.removeprefix("'") if name in texts else as_number(cell) for name, cell in row.items()}
    return json.dumps(values) + "\n"


def as_number(cell: str) -> float | None:
    """Convert a cell to a number; None if it holds no finite one."""
    with suppress(ValueError, OverflowError):  # too many digits
        number = int(cell) if cell.isdigit() else float(cell)
        if math.isfinite(number):
            return number
    return None


def as_cell(text: str) -> str:
    """Make a text one line that spreadsheets do not interpret as a formula; different texts stay different."""
    line = printable(text.replace("\\", "\\\\"))
    return f"'{line}" if line.startswith(("=", "+", "-", "@", "'")) else line


def _line(values: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerow(values)
    return stream.getvalue()
