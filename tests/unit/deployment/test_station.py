"""An inbox that others change, and a table that a crash may have torn."""

import io
import os
import stat
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from anomalib_plus.deployment.station import ResultTable, announce, images_in

HEADER = "file,modified,score,problem\r\n"


def table(path: Path) -> ResultTable:
    return ResultTable(path, ["score", "problem"])


def written(path: Path) -> list[str]:
    return path.read_bytes().decode().splitlines(keepends=True)


def test_links_and_odd_names_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "=1+1.png").touch()
    (tmp_path / "two\nlines.png").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/no text \xff.png")).touch()
    (tmp_path / "notes.txt").touch()
    names = [name for name, _ in images_in(tmp_path)]
    assert names == ["'=1+1.png", "a.png", "dangling.png", "loop.png", "no text \\udcff.png", "two\\nlines.png"]


def test_a_link_changes_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "newest.png").symlink_to("target")
    before = images_in(tmp_path)
    os.utime(tmp_path / "target", (1, 1))
    assert images_in(tmp_path).keys() != before.keys()


def test_changes_are_dates_with_a_time_zone(tmp_path: Path) -> None:
    for name, nanoseconds in {
        "a.png": 1_795_996_199_370_000_000,
        "b.png": 1_000_000_999,
        "c.png": -1_000_000_000,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(nanoseconds, nanoseconds))
    dates = [changed for _, changed in images_in(tmp_path)]
    assert dates == [
        "2026-11-29T23:49:59.370000+00:00",
        "1970-01-01T00:00:01.000000+00:00",
        "1969-12-31T23:59:59.000000+00:00",
    ]
    assert datetime.fromisoformat(dates[0]).timestamp() == 1_795_996_199.37


def test_a_date_beyond_the_calendar_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: SimpleNamespace(st_mtime_ns=10**21, st_mode=stat.S_IFREG))
    assert list(images_in(tmp_path)) == [("a.png", "1000000000000.0")]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_console_gets_one_line_that_it_can_show(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    announce("gehäuse\n\udcff.png", 0.25, "accept")
    time, rest = console.buffer.getvalue().decode(encoding).split(" ", 1)
    assert datetime.fromisoformat(time).tzinfo is not None
    name = "gehäuse" if encoding == "utf-8" else "geh\\xe4use"
    assert rest == f"{name}\\n\\udcff.png 0.25 accept\n"


def test_a_file_that_is_taken_away_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stays.png").touch()
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([tmp_path / "gone.png", tmp_path / "stays.png"]))
    assert [name for name, _ in images_in(tmp_path)] == ["stays.png"]


def test_a_table_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    table(file)
    first = table(file)  # again, before there was any image
    assert written(file) == [HEADER]
    images = [("a.png", "1.5"), ('b, "b".png', "2.5")]
    assert first.missing(images) == images
    first.add(images[0], {"score": -0.25})
    first.add(images[1], {"problem": "=line\nbreak"})
    lines = [HEADER, "a.png,1.5,-0.25,\r\n", '"b, ""b"".png",2.5,,\'=line\\nbreak\r\n']
    assert written(file) == lines
    again = table(file)
    assert again.missing([*images, ("a.png", "3.5")]) == [("a.png", "3.5")]
    assert again.missing(images[:1]) == []
    assert again.missing(images) == images[1:], "what was away is forgotten"
    assert written(file) == lines


@pytest.mark.parametrize("torn", ["b.png,2.", 'b.png,2.0,,"half a', "\0\0"])
def test_half_a_line_is_removed(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "results.csv"
    file.write_bytes(f"{HEADER}a.png,1.0,0.5,\r\n{torn}".encode())
    opened = table(file)
    assert opened.missing([("a.png", "1.0"), ("b.png", "2.0")]) == [("b.png", "2.0")]
    opened.add(("b.png", "2.0"), {"score": 0.5})
    assert written(file) == [HEADER, "a.png,1.0,0.5,\r\n", "b.png,2.0,0.5,\r\n"]


def test_half_a_header_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text("file,modi")
    table(file)
    assert written(file) == [HEADER]


def test_a_quotation_mark_that_nothing_closes_takes_no_lines_along(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text(f'{HEADER}a.png,1.0,,"half b.png,2.0,0.5,\nc.png,3.0,0.5,\n', newline="")
    assert table(file).missing([("a.png", "1.0"), ("c.png", "3.0")]) == []
