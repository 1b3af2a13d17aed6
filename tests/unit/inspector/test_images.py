"""Images of a run, and an inbox that others change."""

import os
import stat
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS

from anomalib_plus.image_files import IMAGE_SUFFIXES
from anomalib_plus.inspector.images import find_images, images_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "parts/b.png",
        "parts/a.JPG",
        "parts/notes.txt",
        "parts/deep/c.png",
        "parts/deep/er/d.bmp",
        "one [1].png",
        "parts/._b.png",
        "parts/.previews/b.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("parts/b.png\r\n\nmissing.png\n", newline="")
    (tmp_path / "marked.txt").write_text("\N{BYTE ORDER MARK}parts/b.png\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "recursive", "found"),
    [
        (["parts"], False, ["parts/a.JPG", "parts/b.png"]),
        (["parts"], True, ["parts/a.JPG", "parts/b.png", "parts/deep/c.png", "parts/deep/er/d.bmp"]),
        (["parts/*"], False, ["parts/a.JPG", "parts/b.png"]),
        (["**/*.png"], True, ["one [1].png", "parts/b.png", "parts/deep/c.png"]),
        (["parts/._b.png"], False, ["parts/._b.png"]),
        (["marked.txt"], False, ["parts/b.png"]),
        (["one [1].png", "missing.png"], False, ["one [1].png", "missing.png"]),
        (["list.txt", "parts/a.JPG"], False, ["parts/b.png", "missing.png", "parts/a.JPG"]),
    ],
    ids=str,
)
def test_images_are_found(folder: Path, arguments: list[str], recursive: bool, found: list[str]) -> None:
    assert [path.as_posix() for path in find_images(arguments, recursive)] == found


@pytest.mark.parametrize("argument", ["empty", "nothing*", "parts/deep/e*"])
def test_a_folder_or_pattern_without_images_is_named(folder: Path, argument: str) -> None:
    with pytest.raises(ValueError, match=r"no image \(\.jpg.*\) in .*--recursive"):
        list(find_images(["parts", argument]))
    with pytest.raises(ValueError, match="There is no file or folder parts/bad: correct the path"):
        list(find_images(["parts/bad"]))


def test_a_closed_folder_is_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError, match="deep"):
        list(find_images(["parts"], recursive=True))


def test_the_endings_are_those_of_anomalib() -> None:
    assert set(IMAGE_SUFFIXES) == set(IMG_EXTENSIONS)


def test_links_and_odd_names_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "=1+1.png").touch()
    (tmp_path / "two\nlines.png").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/no text \xff.png")).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._a.png").touch()
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
    assert list(images_in(tmp_path)) == [("a.png", "unix 1000000000000.0")]


def test_a_file_that_is_removed_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stays.png").touch()
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([tmp_path / "gone.png", tmp_path / "stays.png"]))
    assert [name for name, _ in images_in(tmp_path)] == ["stays.png"]
