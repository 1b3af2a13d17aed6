"""``anomalib-plus watch``, with a model of three operations."""

import csv
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.cli import main
from anomalib_plus.inspector import Inspector, watch
from tiny_bundle import write_tiny_bundle

from .conftest import save_part


def once(bundle: Path) -> list[dict[str, str]]:
    """Run the command with --once and return the table."""
    assert main(["watch", str(bundle), "inbox", "outbox", "--once"]) == 0
    return table()


def table() -> list[dict[str, str]]:
    with Path("outbox/results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def json_lines(outbox: str = "outbox") -> list[dict]:
    return [json.loads(line) for line in Path(outbox, "results.jsonl").read_text().splitlines()]


class Steps:
    """Event that runs one function after another instead of waiting, and is set after the last."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def is_set(self) -> bool:
        return not self.steps

    def wait(self, seconds: float) -> None:
        self.steps.pop(0)()


def run_steps(bundle: Path, *steps: Callable[[], object]) -> None:
    watch.watch(Inspector.load(bundle), Path("inbox"), Path("outbox"), Steps(*steps), 0.5)


def test_images_are_inspected_once(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_part(Path("inbox/good.png"), 20)
    save_part(Path("inbox/bad.png"), 200)
    Path("inbox/cut.png").write_bytes(Path("inbox/bad.png").read_bytes()[:60])
    Path("inbox/notes.txt").write_text("not an image")
    Path("inbox/telephone.heic").touch()
    first = {row["file"]: row for row in once(bundle)}
    assert {name: row["decision"] for name, row in first.items()} == {
        "good.png": "accept", "bad.png": "reject", "cut.png": "unreadable", "telephone.heic": "unreadable"
    }  # fmt: skip
    assert first["bad.png"]["area"] == "6"
    for column in ("modified", "time"):
        assert datetime.fromisoformat(first["good.png"][column]).tzinfo is not None
    assert json_lines()[0].items() >= {"file": "bad.png", "x": 5, "area": 6, "problem": "", "p_value": 0.01}.items()
    assert [line["score"] for line in json_lines()][1] is None
    assert [line["file"] for line in json_lines()] == ["bad.png", "cut.png", "good.png", "telephone.heic"]
    assert sorted(path.name for path in Path("outbox/overlays").iterdir()) == ["bad.png.png", "good.png.png"]
    start, bad, cut, *_ = capsys.readouterr().out.splitlines()
    assert start.endswith("watching inbox, rejecting scores above 0.5, results in outbox")
    assert bad.endswith("bad.png 0.78431374 reject")
    assert "cut.png unreadable is damaged" in cut

    shutil.copy("inbox/good.png", "inbox/later.png")
    os.utime("inbox/good.png", (1, 1))  # another image of the same name
    assert [row["file"] for row in once(bundle)[4:]] == ["good.png", "later.png"]
    Path("inbox/later.png").unlink()
    assert len(once(bundle)) == len(json_lines()) == 6


def test_warnings_of_the_build_are_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(write_tiny_bundle(tmp_path / "other", warnings=["Do not rely on it."]))
    save_part(Path("inbox/good.png"), 20)
    assert main(["score", bundle, "inbox", "--output", "scores.csv"]) == 0
    assert main(["watch", bundle, "inbox", "outbox", "--once"]) == 0
    assert capsys.readouterr().err == 2 * "warning of the build: Do not rely on it.\n"


def test_links_odd_names_and_a_torn_table_stop_nothing(bundle: Path) -> None:
    save_part(Path("inbox/part.png"))
    for name in (b"=1+1.png", b"no text \xff.png", b"two\nlines.png", b"x" * 251 + b".png"):
        shutil.copy("inbox/part.png", os.fsdecode(b"inbox/" + name))
    Path("inbox/dangling.png").symlink_to("nowhere")
    Path("inbox/loop.png").symlink_to("loop.png")
    first = {row["file"]: row for row in once(bundle)}
    assert {name for name, row in first.items() if row["decision"] == "unreadable"} == {"dangling.png", "loop.png"}
    assert {"'=1+1.png", "two\\nlines.png", "no text \\udcff.png"} < first.keys()
    assert "=1+1.png" in {line["file"] for line in json_lines()}
    assert len(first) == 7
    for torn in ('"new', ""):  # a crash, and a restart without new images
        for name in ("results.csv", "results.jsonl"):
            with Path("outbox", name).open("a") as file:
                file.write(torn)
        assert len(once(bundle)) == len(json_lines()) == 7
    shutil.copy("inbox/part.png", "inbox/new.png")
    assert once(bundle)[-1]["file"] == json_lines()[-1]["file"] == "new.png"


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_missing_lines_of_json_are_added(bundle: Path, kept: int) -> None:
    """A crash may leave a row of the table without its line of JSON."""
    for number in range(3):
        save_part(Path(f"inbox/{number}.png"), 80 * number)
    once(bundle)
    lines = Path("outbox/results.jsonl").read_text().splitlines(keepends=True)
    Path("outbox/results.jsonl").write_text("".join(lines[:kept]) + '{"file": "to')
    once(bundle)
    assert Path("outbox/results.jsonl").read_text() == "".join(lines)


def test_an_image_is_inspected_when_it_is_unchanged(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = save_part(Path("inbox/part.png"))
    tomorrow = time.time() + 86_400
    os.utime(part, (tomorrow, tomorrow))
    rows: list[int] = []

    def count() -> None:
        rows.append(len(table()))

    def change() -> None:
        count()
        os.utime(part, (tomorrow, tomorrow + 1))

    run_steps(bundle, change, count, count, count)
    assert rows == [0, 0, 1, 1]
    assert capsys.readouterr().out.splitlines()[-1].endswith(" stopped")


def test_an_image_that_is_put_back_is_inspected_again(bundle: Path) -> None:
    part = save_part(Path("inbox/part.png"))
    away = Path("away.png")  # keeps the time of its last change
    run_steps(bundle, lambda: None, lambda: part.rename(away), lambda: away.rename(part), lambda: None, lambda: None)
    assert [row["file"] for row in table()] == ["part.png", "part.png"]


def test_an_inbox_that_is_away_for_a_while_stops_nothing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_part(Path("inbox/part.png"))

    def back() -> None:
        Path("away").rename("inbox")
        save_part(Path("inbox/new.png"))

    run_steps(bundle, lambda: Path("inbox").rename("away"), back, lambda: None, lambda: None)
    assert {row["file"]: row["decision"] for row in table()}["new.png"] == "accept"
    assert "cannot read the inbox, will try again: [Errno 2]" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["overlay", "results.csv", "results.jsonl"])
def test_a_full_disk_ends_the_station_and_loses_nothing(
    bundle: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        save_part(Path(f"inbox/{number}.png"), 80 * number)
    calls = []

    def limited(function: Callable, name: str) -> Callable:
        def write(*arguments: object, **options: object) -> object:
            if str(arguments[0]).endswith(name) or place == "overlay":
                calls.append(arguments)
                if len(calls) == 3:
                    raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return write

    with monkeypatch.context() as patch:
        if place == "overlay":
            patch.setattr(Image.Image, "save", limited(Image.Image.save, ""))
        else:
            for module in ("table", "watch"):
                writer = sys.modules[f"anomalib_plus.inspector.{module}"]
                patch.setattr(writer, "append_text", limited(writer.append_text, place))
        with pytest.raises(SystemExit) as ended:
            once(bundle)
    assert ended.value.code == 2
    assert "No space left on device. What is done is kept: repair this" in capsys.readouterr().err
    assert all(row["decision"] != "unreadable" for row in once(bundle))
    assert [row["file"] for row in table()] == [line["file"] for line in json_lines()] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("problem", ["inbox", "same folder", "bundle", "table", "running"])
def test_what_prevents_a_start_is_named(bundle: Path, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_part(Path("inbox/part.png"))
    messages = {
        "inbox": "there is no folder inbox to watch: create it",
        "same folder": "inbox is the inbox: choose another folder",
        "bundle": "model.onnx of the bundle .* was changed",
        "table": "results.csv is no table of this version, with the columns",
        "running": "Another process writes to outbox.results.csv",
    }
    if problem == "inbox":
        shutil.rmtree("inbox")
    if problem == "bundle":
        (bundle / "model.onnx").write_bytes(b"")
    if problem == "table":
        Path("outbox").mkdir()
        Path("outbox/results.csv").write_text("file,modified,score\n")
    station = watch.Station(Inspector.load(bundle), Path("outbox"), {}) if problem == "running" else None
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(bundle), "inbox", "inbox/" if problem == "same folder" else "outbox", "--once"])
    assert ended.value.code == 2
    assert re.search(messages[problem], capsys.readouterr().err)
    if station:
        station.close()


def test_drift_is_warned_of_once_and_remembered(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calibration scores spread over 0 to 0.5; parts that all score 0.2 are a change."""
    for number in range(40):
        save_part(Path(f"inbox/{number:02}.png"), 51)
    rows = once(bundle)
    warned = [row["file"] for row in rows if row["warning"]]
    assert len(warned) == 1
    assert "the camera, the light or the parts have changed" in next(row["warning"] for row in rows if row["warning"])
    assert [line["file"] for line in json_lines() if line["warning"]] == warned
    assert capsys.readouterr().out.count("warning:") == 1

    shutil.rmtree("outbox/overlays")
    save_part(Path("inbox/99.png"), 51)
    assert [row["file"] for row in once(bundle) if row["warning"]] == warned
    assert capsys.readouterr().out.count("warning:") == 1, "at the start, as a reminder"


def test_drift_is_the_same_with_a_restart_after_each_part(tmp_path: Path) -> None:
    inspector = Inspector.load(write_tiny_bundle(tmp_path / "bundle", calibration_brightness=[90.0] * 99))
    parts = {number: save_part(Path(f"inbox/{number:02}.png"), 51 if number % 2 else 49) for number in range(30)}
    for outbox, restarts in (("restarted", True), ("in one go", False)):
        station = watch.Station(inspector, Path(outbox), {})
        for number, path in parts.items():
            station.inspect((path.name, str(number)), path)
            if restarts:
                station.close()
                station = watch.Station(inspector, Path(outbox), {})
        station.close()
        assert len(station.drift.warnings) == 2
    restarted, in_one_go = (
        [line["file"] for line in json_lines(outbox) if line["warning"]] for outbox in ("restarted", "in one go")
    )
    assert restarted == in_one_go
    assert len(restarted) == 2, "of the scores, and of the brightness"


def test_another_bundle_begins_another_drift_test(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        save_part(Path(f"inbox/{number:02}.png"), 51)
    once(bundle)
    capsys.readouterr()
    write_tiny_bundle(bundle, calibration_scores=np.linspace(0.19, 0.21, 99))
    save_part(Path("inbox/new.png"), 51)
    assert len({row["bundle"] for row in once(bundle)}) == 2
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_console_gets_one_line_that_it_can_show(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    watch.announce("gehäuse\n\udcff.png", 0.25, "accept")
    written, rest = console.buffer.getvalue().decode(encoding).split(" ", 1)
    assert datetime.fromisoformat(written).tzinfo is not None
    name = "gehäuse" if encoding == "utf-8" else "geh\\xe4use"
    assert rest == f"{name}\\n\\udcff.png 0.25 accept\n"


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon"])
def test_an_impossible_interval_is_refused(bundle: Path, interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["watch", str(bundle), "inbox", "outbox", "--interval", interval])
    assert re.search(r"is not above 0|invalid number value: 'soon'", capsys.readouterr().err)
