"""Survey of a folder: what is used, what is left out, and which images show one part."""

import re
import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image

from anomalib_plus.inspector.building.findings import find
from anomalib_plus.inspector.building.splits import Splits, divide
from anomalib_plus.inspector.building.survey import survey
from part_images import draw_part, save_parts


def grouped(found):
    groups = {}
    for image, group in zip(found.images, found.groups, strict=True):
        groups.setdefault(group, []).append(image.path.name)
    return sorted(names for names in groups.values() if len(names) > 1)


def test_files_that_are_copies_or_unusable_are_left_out(tmp_path):
    paths = save_parts(tmp_path / "good", 6)
    shutil.copyfile(paths[2], tmp_path / "good" / "zz_copy.png")
    (tmp_path / "good" / "broken.png").write_bytes(paths[0].read_bytes()[:200])
    Image.fromarray(np.full((48, 48), 40000, np.uint16)).save(tmp_path / "good" / "deep.png")
    (tmp_path / "good" / "notes.txt").write_text("no image")
    (tmp_path / "good" / "raw.DNG").write_bytes(paths[0].read_bytes())
    Image.fromarray(draw_part(0, size=15)).save(tmp_path / "good" / "small.png")
    save_parts(tmp_path / "good" / ".previews", 1, first=30)
    shutil.copyfile(tmp_path / "good" / ".previews" / "part_030.png", tmp_path / "good" / "._part_000.png")
    found = survey(tmp_path / "good")
    assert [image.path for image in found.images] == paths
    assert found.copies == [("zz_copy.png", "part_002.png")]
    assert [name for name, _ in found.unusable] == ["broken.png", "deep.png", "raw.DNG", "small.png"]
    assert "more than 8 bits" in found.unusable[1][1]
    assert "has a format that is not read (.dng): convert it to PNG or JPEG" in found.unusable[2][1]
    assert "has 15x15 pixels" in found.unusable[3][1], "no inspector would take it, and the build would fail at its end"


def test_images_of_one_part_stay_together_in_another_light_too(tmp_path):
    save_parts(tmp_path, 22, size=64)
    noise = np.random.default_rng(0).normal(0, 3, (64, 64, 3))
    for name, pixels in (
        ("noisy.png", draw_part(3, 64) + noise),
        ("dark.png", 0.6 * draw_part(5, 64) + noise),
    ):
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    found = survey(tmp_path)
    together = grouped(found)
    assert ["dark.png", "part_005.png"] in together
    assert ["noisy.png", "part_003.png"] in together
    assert len(together) <= 4, "stripes of other parts are alike, too, but only a few"
    assert "images are alike in their details, as images of one part are: they stay in one split." in found.remarks[0]


@pytest.mark.parametrize("endings", [("_a", "_b"), ("_1", "_2")])
def test_names_of_one_burst_stay_together(tmp_path, endings):
    for number in range(22):
        Image.fromarray(draw_part(number)).save(tmp_path / f"part_{number // 2:03d}{endings[number % 2]}.png")
    found = survey(tmp_path)
    assert len(set(found.groups)) == 11
    assert grouped(found)[0] == [f"part_000{ending}.png" for ending in endings]


def test_a_rule_that_lumps_everything_together_is_not_used(tmp_path):
    for number in range(22):
        pixels = draw_part(0).astype(int) + np.random.default_rng(number).integers(-3, 4, (48, 48, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"2024_{number:02d}.png")
    found = survey(tmp_path)
    assert grouped(found) == []
    (remark,) = found.remarks
    assert "By names of one burst, 22 of 22 images would be one part, so this rule is not used;" in remark


def test_group_by_is_an_expression(tmp_path):
    for number in range(20):
        Image.fromarray(draw_part(number)).save(tmp_path / f"{number:02d}-lot{number % 5}.png")
    assert len(set(survey(tmp_path, r"lot(\d)").groups)) == 5
    with pytest.raises(ValueError, match="matches no image, for example not '00-lot0"):
        survey(tmp_path, "batch")
    with pytest.raises(ValueError, match="is not a regular expression"):
        survey(tmp_path, "(")


def test_findings_say_what_is_seen_and_decided(tmp_path):
    save_parts(tmp_path, 30, size=160, grey=True)
    found = survey(tmp_path)
    told = find(found, divide(found.groups, 0.01, 0), 0.01, (32, 32))
    text = " ".join(f"{finding.seen}. {finding.decided}" for finding in told)
    for expected in (
        "30 image files", "30 are used", "160x160 (30)", "each as wide as 5.0 of the image", "should be 15 pixels",
        "build with --tile 256", "grey images", "18 train, 6 select the model, 6 calibrate",
        "which takes 99 calibration", "14 % false alarms",
    ):  # fmt: skip
        assert expected in text, expected
    assert not re.search(r"\s\.|\.\.", text)


def test_findings_count_parts(tmp_path):
    save_parts(tmp_path, 40)
    found = survey(tmp_path, r"part_(\d\d)")  # ten images show one part
    splits = Splits(list(range(10)), list(range(10, 20)), list(range(20, 40)))
    told = find(found, splits, 0.05, (32, 32))[-1]
    assert f"{told.seen}. {told.decided}" == (
        "20 calibration images of 2 parts support a false-alarm rate of 33 % or more. 5 % were asked for, which takes "
        "19 calibration images of different parts. The threshold is the highest score of the 20: expect up to 33 % "
        "false alarms."
    )
    assert find(found, splits, 0.4, (32, 32))[-1].decided == "The threshold is set for 40 %."


def test_images_that_are_turned_or_of_another_shape_are_told(tmp_path):
    paths = save_parts(tmp_path, 20)

    def size():
        found = survey(tmp_path)
        (told,) = [each for each in find(found, divide(found.groups, 0.1, 0), 0.1, (32, 32)) if each.topic == "Size"]
        return told.decided

    assert "turned" not in size()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(draw_part(50)).save(tmp_path / "photo.jpg", exif=exif)
    assert "1 image is marked as turned (EXIF)" in size()
    assert "differ in shape" not in size()
    Image.fromarray(draw_part(51)[:24]).save(paths[0])
    assert "differ in shape, and each is stretched" in size()


def test_subfolders_are_told(tmp_path):
    save_parts(tmp_path / "good", 20)
    save_parts(tmp_path / "spare" / "old", 3, first=20)
    for folder, told in ((tmp_path / "good", False), (tmp_path, True)):
        found = survey(folder)
        decided = find(found, divide(found.groups, 0.1, 0), 0.1, (32, 32))[0].decided
        assert ("lie in 2 folders (good (20), spare/old (3)), and all are taken for good parts" in decided) == told


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        survey(tmp_path / "missing")
