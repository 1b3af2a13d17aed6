"""``anomalib-plus score``, with a model of three operations."""

import csv
import io
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from anomalib_plus.cli import main
from anomalib_plus.inspector import Inspector, Prediction, read_bundle_info, result_row, score, table
from anomalib_plus.inspector.regions import Region
from tiny_bundle import write_tiny_bundle

from .conftest import save_part


def rows(file: Path = Path("scores.csv")) -> dict[str, dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert len({row["file"] for row in read}) == len(read), "nothing twice"
    return {row["file"]: row for row in read}


def test_every_kind_of_file_has_its_row_and_overlay(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, red in {"good.png": 20, "bad.png": 200, "=1.png": 0, "two\nlines.png": 0}.items():
        save_part(Path("parts") / name, red)
    save_part(Path("parts/deep/grey.bmp"))
    Path("parts/cut.png").write_bytes(Path("parts/good.png").read_bytes()[:60])
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save("parts/deep.png")
    save_part(Path("parts/small.png"), size=(8, 30))
    Path("parts/dangling.png").symlink_to("nowhere")
    Path("parts/telephone.HEIC").write_bytes(b"0000ftypheic")
    arguments = ["score", str(bundle), "parts", "parts/good.png", "--output", "out/scores.csv"]
    assert main([*arguments, "--overlays", "overlays", "--recursive"]) == 2
    assert capsys.readouterr().out == (
        "parts: 9 images, 1 rejected, 3 accepted, 5 unreadable\n"
        "parts/deep: 1 image, 1 accepted\n"
        "out/scores.csv: 10 images, 4 accept, 1 reject, 5 unreadable\n"
        "unreadable: parts/cut.png is damaged or cut off, and 4 more (column problem)\n"
    )
    found = rows(Path("out/scores.csv"))
    assert ",".join(next(iter(found.values()))) == (
        "file,score,p_value,decision,x,y,width,height,area,brightness,milliseconds,problem,bundle"
    )
    bad = found["parts/bad.png"]
    assert [bad[name] for name in ("x", "y", "width", "height", "area")] == ["5", "4", "3", "2", "6"]
    assert bad["decision"] == "reject"
    assert np.float32(bad["score"]) == np.float32(200 / 255)
    assert bad["p_value"] == "0.01"
    assert bad["brightness"] == "67.33", "(600 * 200 + 6 * 200) / 1800 for two channels and a square of red"
    good = found["parts/good.png"]
    assert [good[name] for name in ("decision", "p_value", "x", "area")] == ["accept", "0.85", "", ""]
    assert float(good["milliseconds"]) >= 0
    assert {name: row["problem"].split()[0:2] for name, row in found.items() if row["decision"] == "unreadable"} == {
        "parts/cut.png": ["is", "damaged"],
        "parts/deep.png": ["has", "pixels"],
        "parts/small.png": ["has", "8x30"],
        "parts/dangling.png": ["is", "a"],
        "parts/telephone.HEIC": ["has", "a"],
    }
    overlays = {path.relative_to("overlays").as_posix() for path in Path("overlays").rglob("*.png")}
    assert overlays == {
        *(f"parts/{name}.png" for name in ("good.png", "bad.png", "=1.png", "two\nlines.png", "deep/grey.bmp"))
    }
    with Image.open("overlays/parts/bad.png.png") as overlay:
        assert overlay.size == (30, 20)


def test_each_folder_below_the_scored_one_is_summarised(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save_part(Path(f"photos/good/{number}.png"), 200 if number == 2 else 0)
        save_part(Path(f"photos/bad/{number % 2}/{number}.png"), 200)
    summary = "photos/bad: 3 images, 3 rejected\nphotos/good: 3 images, 1 rejected, 2 accepted\n"
    total = "scores.csv: 6 images, 2 accept, 4 reject, 0 unreadable\n"
    assert main(["score", str(bundle), "photos/", "--recursive", "--output", "scores.csv"]) == 1
    assert capsys.readouterr().out == summary + total
    assert main(["score", str(bundle), "photos", "--recursive", "--output", "scores.csv", "--resume"]) == 1
    assert capsys.readouterr().out == summary + total, "rows of an earlier run count too"
    assert main(["score", str(bundle), "photos/*/*.png", "photos/bad/*/*.png", "--output", "patterns.csv"]) == 1
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "photos/bad/0: 2 images, 2 rejected",
        "photos/bad/1: 1 image, 1 rejected",
        "photos/good: 3 images, 1 rejected, 2 accepted",
    ]
    assert main(["score", str(bundle), "photos/good", "--output", "one.csv"]) == 1
    assert capsys.readouterr().out == "one.csv: 3 images, 2 accept, 1 reject, 0 unreadable\n"
    for name in ("=1", "-2"):
        save_part(Path(f"{name}/part.png"))
    assert main(["score", str(bundle), "--recursive", "--output", "formulas.csv", "--", "./=1", "./-2"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == ["-2: 1 image, 1 accepted", "=1: 1 image, 1 accepted"]


def test_accepted_images_with_a_marked_region_are_counted(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_row, "marked_region", lambda *_: Region(1, 2, 3, 4, 5))
    for name, red in {"accepted.png": 20, "rejected.png": 255}.items():
        save_part(Path("parts") / name, red)
    for resume in ([], ["--resume"]):
        assert main(["score", str(bundle), "parts", "--output", "scores.csv", *resume]) == 1
        assert capsys.readouterr().out == (
            "scores.csv: 2 images, 1 accept, 1 reject, 0 unreadable\n"
            "1 accepted image has a marked region (x, y, width, height in the table): look there\n"
        )


def test_of_many_folders_the_first_are_summarised(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(22):
        save_part(Path(f"days/{number:02}/part.png"))
    assert main(["score", str(bundle), "days", "--recursive", "--output", "scores.csv"]) == 0
    *lines, last, _ = capsys.readouterr().out.splitlines()
    assert lines == [f"days/{number:02}: 1 image, 1 accepted" for number in range(20)]
    assert last == "and 2 more folders: see the table"


def test_a_part_rejected_by_its_score_alone_is_framed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its map stays below the threshold."""

    def raised(inspector: Inspector, pixels: np.ndarray) -> Prediction:
        found = call(inspector, pixels)
        return found._replace(score=0.7, decision="reject") if found.score > 0.3 else found

    call = Inspector.__call__
    monkeypatch.setattr(Inspector, "__call__", raised)
    for name, red in (("bad", 100), ("good", 50)):
        save_part(Path(f"parts/{name}.png"), red)
    assert main(["score", str(bundle), "parts", "--output", "scores.csv", "--overlays", "overlays"]) == 1
    bad, good = rows().values()
    assert [bad[name] for name in ("decision", "x", "y", "width", "height", "area")] == ["reject", *"54326"]
    assert [good[name] for name in ("decision", "x", "area")] == ["accept", "", ""]
    with Image.open("overlays/parts/bad.png.png") as overlay:
        assert (np.asarray(overlay)[3, 4:9] == 255).all()


def test_other_light_is_warned_of_once_also_after_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", calibration_brightness=[120.0] * 50 + [124.0] * 49)
    for number in range(21):
        save_part(Path(f"parts/{number}.png"))
    arguments = ["score", str(bundle), "parts", "--output", "scores.csv"]
    assert main(arguments) == 0
    light = "warning: the images have become darker: of the last 20 accepted parts the median brightness is 66.7 of 255"
    assert light in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert capsys.readouterr().err.count(light) == 1


@pytest.mark.parametrize(("reds", "status"), [((10, 20), 0), ((10, 200), 1), ((200, None), 2)])
def test_the_exit_status_is_for_scripts(bundle: Path, reds: tuple[int | None, ...], status: int) -> None:
    for number, red in enumerate(reds):
        save_part(Path(f"{number}.png"), red or 0)
        if red is None:
            Path(f"{number}.png").write_text("text")
    command = ["score", str(bundle), "*.png", "--output", "scores.csv"]
    assert main(command) == status
    assert main([*command, "--resume"]) == status, "the status is that of the whole table"


def test_a_table_is_resumed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        save_part(Path(f"parts/\\{number}.png"), 40 * number)
    command = ["score", str(bundle), "parts", "--output", "scores.csv"]
    inspected: list[Path] = []
    inspect_file = score.inspect_file

    def interrupted(inspector: Inspector, path: Path, with_overlay: bool) -> tuple:
        inspected.append(path)
        if len(inspected) == 4:
            raise KeyboardInterrupt
        return inspect_file(inspector, path, with_overlay)

    monkeypatch.setattr(score, "inspect_file", interrupted)
    assert main(command) == 130
    with Path("scores.csv").open("a") as file:
        file.write("parts/\\\\3.png,0.")
    assert main([*command, "--resume"]) == 1
    assert [path.name for path in inspected] == [f"\\{number}.png" for number in (0, 1, 2, 3, 3, 4, 5)]
    assert len(rows()) == 6
    assert main([*command, "--resume"]) == 1
    assert len(inspected) == 7


@pytest.mark.parametrize(
    ("problem", "message"),
    {
        "exists": "scores.csv exists: add --resume",
        "another table": "scores.csv is no table of this version, with the columns",
        "another bundle": "scores of another bundle: choose another output",
        "no bundle": "is no bundle, because inspector.json cannot be read",
        "no folder": "There is no folder elsewhere: give the one that anomalib-plus build has written",
        "no images": "There is no image",
        "overlays among images": "overlays lies in",
        "full disk": "No space left on device",
    }.items(),
)
def test_what_cannot_be_done_is_named_with_status_2(
    bundle: Path, problem: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_part(Path("part.png"))
    options = ["--output", "scores.csv", "--overlays", "overlays"]
    if problem in ("exists", "another bundle"):
        assert main(["score", str(bundle), "part.png", *options]) == 0
    else:
        Path("scores.csv").write_text("file,mark\n" if problem == "another table" else "")
    if problem == "another bundle":
        write_tiny_bundle(bundle, threshold=0.7)
    if problem == "no bundle":
        (bundle / "inspector.json").unlink()
    if problem == "full disk":

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, message)

        monkeypatch.setattr(table, "append_text", fail)
    before = Path("scores.csv").read_text()
    images = "*.bmp" if problem == "no images" else "part.png"
    if problem == "overlays among images":
        images, options = ".", [*options, "--recursive"]
    inspector = "elsewhere" if problem == "no folder" else str(bundle)
    with pytest.raises(SystemExit) as ended:
        main(["score", inspector, images, *options, *([] if problem == "exists" else ["--resume"])])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    rows_after = Path("scores.csv").read_text()
    assert rows_after == before or (problem in ("another bundle", "full disk") and rows_after.count("\n") == 1)


@pytest.mark.parametrize("cause", ["not drawn", "not written"])
def test_a_missing_overlay_changes_no_decision(
    bundle: Path, cause: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_part(Path("parts/bad.png"), 200)
    save_part(Path("other/good.png"), 20)
    if cause == "not written":
        Path("overlays").mkdir()
        Path("overlays/parts").write_text("a file where the folder should be")
    else:
        draw = result_row.draw_overlay

        def fail_on_regions(*arguments: Any) -> Image.Image:
            if arguments[-1] is not None:
                raise MemoryError("too large")
            return draw(*arguments)

        monkeypatch.setattr(result_row, "draw_overlay", fail_on_regions)
    assert main(["score", str(bundle), "parts", "other", "--output", "scores.csv", "--overlays", "overlays"]) == 1
    assert [row["decision"] for row in rows().values()] == ["reject", "accept"]
    bad, good = rows().values()
    assert bad["problem"].startswith("no overlay: ")
    assert (bad["score"], bad["area"], good["problem"]) == ("0.78431374", "6", "")
    assert re.fullmatch(r"warning: overlays/parts/bad.png.png was not written, .*\n", capsys.readouterr().err)
    assert Path("overlays/other/good.png.png").is_file()


def test_a_name_that_the_console_cannot_show_is_no_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1 would mean a rejected image."""
    save_part(Path("part.png"))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    assert main(["score", str(bundle), "part.png", "--output", "caf\N{LATIN SMALL LETTER E WITH ACUTE}.csv"]) == 0
    sys.stdout.flush()
    assert shown.getvalue().startswith(rb"caf\xe9.csv: 1 image, 1 accept")


def test_a_broken_model_is_not_taken_for_a_bad_image(bundle: Path) -> None:
    """Its images are unreadable, with the kind of the error."""

    def broken(_: object) -> dict:
        raise RuntimeError("bad allocation")

    row, overlay = score.inspect_file(Inspector(read_bundle_info(bundle), broken), save_part(Path("part.png")), True)
    assert (row["decision"], row["problem"], overlay) == ("unreadable", "RuntimeError: bad allocation", None)


def growth_of_memory(bundle: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that scoring adds to the process between a tenth and all of the images."""
    save_part(Path("part.png"), size=(16, 16))
    names = [f"parts/{number:06}.png" for number in range(count)]
    Path("parts").mkdir()
    for name in names:
        Path(name).symlink_to("../part.png")
    stub = Prediction(0.1, 0.5, "accept", np.zeros((16, 16), np.float32))
    process, sizes = psutil.Process(), []

    def measured(*_: object) -> Prediction:
        sizes.append(process.memory_info().rss)
        return stub

    monkeypatch.setattr(Inspector, "__call__", measured)
    assert main(["score", str(bundle), "parts", "--output", "scores.csv"]) == 0
    assert len(sizes) == count
    shutil.rmtree("parts")
    return max(sizes) - sizes[count // 10]


@pytest.mark.skipif(sys.platform != "linux", reason="resident size differs elsewhere")
def test_memory_stays_flat(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert growth_of_memory(bundle, 1_500, monkeypatch) < 3_000_000, "images alone would be many times as large"


@pytest.mark.slow
def test_memory_stays_flat_over_a_hundred_thousand_files(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert growth_of_memory(bundle, 100_000, monkeypatch) < 40_000_000, "the names of the files"
