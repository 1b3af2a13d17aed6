"""A table that a crash may have torn."""

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anomalib_plus.inspector.table import ResultTable, as_cell, as_json_line, remove_incomplete_line

COLUMNS = ("file", "score", "problem")
HEADER = "file,score,problem\r\n"


@contextmanager
def opened(path: Path) -> Iterator[ResultTable]:
    table = ResultTable(path, COLUMNS)
    try:
        yield table
    finally:
        table.close()


def written(path: Path) -> list[str]:
    return path.read_bytes().decode().splitlines(keepends=True)


def test_a_table_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    with opened(file):
        pass
    with opened(file) as table:  # again, before there was any image
        assert written(file) == [HEADER]
        rows = [
            table.append({"file": "a.png", "score": -0.25}),
            table.append({"file": 'b, "b".png', "problem": "=line\nbreak"}),
        ]
    lines = [HEADER, "a.png,-0.25,\r\n", '"b, ""b"".png",,\'=line\\nbreak\r\n']
    assert written(file) == lines
    with opened(file) as table:
        assert list(table.rows()) == rows
    assert rows[1] == {"file": 'b, "b".png', "score": "", "problem": "'=line\\nbreak"}
    assert written(file) == lines


@pytest.mark.parametrize("torn", ["b.png,2.", 'b.png,2.0,"half a', "\0\0", "x" * 200_000])
def test_half_a_line_is_removed(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "results.csv"
    file.write_bytes(f"{HEADER}a.png,1.0,\r\n{torn}".encode())
    with opened(file) as table:
        assert [row["file"] for row in table.rows()] == ["a.png"]
        table.append({"file": "b.png", "score": 0.5})
    assert written(file) == [HEADER, "a.png,1.0,\r\n", "b.png,0.5,\r\n"]


def test_half_a_header_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text("file,sco")
    with opened(file):
        assert written(file) == [HEADER]


@pytest.mark.parametrize("content", ["IMG_0001.png", "file,result\na.png,1", "file,score,problem,more\n"])
def test_another_file_stays_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "precious.csv"
    file.write_text(content)
    for _ in range(2):  # the lock is released
        with pytest.raises(
            ValueError, match=r"precious.csv is no table of this version, with the columns file, score, problem"
        ):
            ResultTable(file, COLUMNS)
    assert file.read_text() == content


def test_a_quotation_mark_that_nothing_closes_affects_no_other_line(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text(f'{HEADER}a.png,,"half b.png,2.0\n\nc.png,3.0,,,,\n', newline="")
    with opened(file) as table:
        assert [(row["file"], row["score"]) for row in table.rows()] == [("a.png", ""), ("", ""), ("c.png", "3.0")]


def test_two_processes_do_not_write_one_table(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    with opened(file), pytest.raises(ValueError, match="Another process writes to"):
        ResultTable(file, COLUMNS)


def test_a_full_disk_leaves_the_table_whole(tmp_path: Path) -> None:
    """The limit of a file's size acts like a full disk: part of a line is written, the rest fails."""
    file = tmp_path / "results.csv"
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with opened(file) as table:
            table.append({"file": "a.png"})
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, limits[1]))
            with pytest.raises(OSError, match="too large"):
                table.append({"file": "b.png"})
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert written(file) == [HEADER, "a.png,,\r\n"]
            table.append({"file": "c.png"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert written(file) == [HEADER, "a.png,,\r\n", "c.png,,\r\n"]


def test_different_names_have_different_cells() -> None:
    names = ["a\nb", "a\\nb", "a\\\nb", "=1", "'=1", "''=1", "\udcff", "\\udcff", "é", "@x", "-x"]
    cells = [as_cell(name) for name in names]
    assert len(set(cells)) == len(names)
    assert cells[:2] == ["a\\nb", "a\\\\nb"]
    assert all(cell.isprintable() and not cell.startswith(("=", "@", "-")) for cell in cells)


def test_a_row_becomes_a_line_of_json() -> None:
    row = {"file": "'=1.png", "score": "0.30", "x": "12", "area": "", "p": "nan", "q": "inf", "r": "9" * 400}
    values = json.loads(as_json_line(row, ["file"]))
    assert values == {"file": "=1.png", "score": 0.3, "x": 12, "area": None, "p": None, "q": None, "r": None}
    assert isinstance(values["x"], int)


@pytest.mark.parametrize(
    ("content", "kept"), [(None, ""), ("", ""), ("half", ""), ("a\nb\nhalf", "a\nb\n"), ("a\n", "a\n")]
)
def test_an_incomplete_line_is_removed(tmp_path: Path, content: str | None, kept: str) -> None:
    file = tmp_path / "lines"
    if content is not None:
        file.write_text(content)
    remove_incomplete_line(file)
    assert file.read_text() == kept
