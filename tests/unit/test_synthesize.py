"""The command that writes synthetic defects."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from anomalib.data import MVTecAD
from PIL import Image

from anomalib_plus.gallery import synthesize, writing
from anomalib_plus.gallery.writing import COLUMNS, MANIFEST


@pytest.fixture
def good(mvtec_layout: Path) -> Path:
    return mvtec_layout / "surface" / "train" / "good"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / MANIFEST).open() as stream:
        return list(csv.DictReader(stream))


def run(data: Path, output: str, *options: str) -> Path:
    assert synthesize.main(["--data", str(data), "--output", output, *options]) == 0
    return Path(output)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"), int)


def test_defects_with_masks_and_a_manifest(good: Path) -> None:
    written = rows(run(good, "set", "--count", "8", "--kinds", "scratch", "stain"))
    assert tuple(written[0]) == COLUMNS
    defects = [row for row in written if row["kind"] != "good"]
    assert sorted(row["kind"] for row in defects) == ["scratch"] * 4 + ["stain"] * 4
    assert len({row["seed"] for row in defects}) == 8  # six sources: two of them have two different defects
    for row in defects:
        image, mask, source = (pixels(path) for path in (Path("set", row["file"]), Path("set", row["mask"]),
                                                         good / row["source"]))  # fmt: skip
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(image[mask == 0], source[mask == 0])
        assert (image != source).any()
        assert 0.3 <= float(row["severity"]) <= 0.8
    assert len([row for row in written if row["kind"] == "good"]) == 6


def test_the_same_seed_gives_the_same_bytes(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = contents(run(good, "first", "--seed", "3", "--severity", "0.7"))
    assert capsys.readouterr().out == "first: 6 images of defects, made from 6 images of good parts\n"
    shutil.copytree(good, tmp_path / "elsewhere" / "good")
    assert contents(run(tmp_path / "elsewhere" / "good", "second", "--seed", "3", "--severity", "0.7")) == first
    assert contents(run(good, "third", "--seed", "4", "--severity", "0.7")) != first
    assert {row["severity"] for row in rows(Path("first")) if row["kind"] != "good"} == {"0.7"}


def test_a_whole_category_for_anomalib(mvtec_layout: Path) -> None:
    run(mvtec_layout / "surface", "made/part", "--train", "--count", "3")
    data = MVTecAD(root="made", category="part", num_workers=0)
    data.setup()
    assert (len(data.train_data), int(data.test_data.samples.label_index.sum())) == (5, 3)
    sources = {split: {row["source"] for row in rows(Path("made/part")) if row["file"].startswith(split)}
               for split in ("train", "test")}  # fmt: skip
    assert not sources["train"] & sources["test"]
    assert all(item.gt_mask.any() == item.gt_label for item in data.test_data)


def test_grey_images_and_a_region_of_interest(tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    Image.fromarray(np.full((40, 56), 120, np.uint8)).save(tmp_path / "grey" / "a.png")
    region = np.zeros((40, 56), np.uint8)
    region[10:20, 10:30] = 255
    Image.fromarray(region).save("region.png")
    for row in rows(run(tmp_path / "grey", "set", "--count", "5", "--roi", "region.png")):
        with Image.open(Path("set", row["file"])) as image:
            assert (image.mode, image.size) == ("L", (56, 40))
        assert row["kind"] == "good" or not pixels(Path("set", row["mask"]))[region == 0].any()


def test_datamodules(mvtec_layout: Path) -> None:
    Path("data.yaml").write_text(
        f"class_path: MVTecAD\ninit_args: {{root: {mvtec_layout}, category: surface, num_workers: 0}}\n"
    )
    assert len(rows(run(Path("data.yaml"), "set", "--count", "2"))) == 4


def test_a_killed_run_can_be_repeated(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "add_defect", killed)
        with pytest.raises(KeyboardInterrupt):
            run(good, "set")
    assert not Path("set").exists()
    Path("set").mkdir()
    assert sorted(path.name for path in run(good, "set").parent.iterdir()) == ["set"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kinds", "rust"], "no kind of defect rust. Known are scratch"),
        (["--count", "0"], "0 is less than 1"),
        (["--severity", "1.5"], "1.5 is not above 0 and at most 1"),
        (["--roi", "no.png"], "The region of interest no.png does not exist"),
        (["--data", "empty"], "There is no image"),
        (["--data", "nowhere/at all"], "There is no folder nowhere"),
        (["--data", "broken"], "broken/x.png is empty (0 bytes)"),
        (["--data", "godo"], "There is no folder godo, and no datamodule"),
        (["--data", "Folder"], "no datamodule Folder without arguments"),
        (["--roi", "small/x.png"], "region of interest does not fit"),
        (["--data", "small"], "small/x.png has 9x40 pixels"),
        (["--data", "folder", "--output", "folder/set"], "folder/set lies in the folder of images folder"),
        (["--output", "full"], "full exists and is not empty"),
    ],
)
def test_errors(arguments: list[str], message: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("empty", "broken", "full", "small"):
        Path(folder).mkdir()
    shutil.copytree(good, "folder")
    Image.new("L", (40, 9), 255).save("small/x.png")
    shutil.copyfile("small/x.png", "empty/._x.png")
    Path("broken/x.png").touch()
    Path("full/x").touch()
    with pytest.raises(SystemExit) as stop:
        synthesize.main(["--data", str(good), "--output", "set", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("set").exists()
    assert not list(Path().glob(".set*"))
