"""Images to choose by, and the datamodule of the splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.inspector.building.argument_checks import check_bad_parts
from anomalib_plus.inspector.building.datamodule import SplitData
from anomalib_plus.inspector.building.selection_images import bad_parts, entry, write_synthetic
from anomalib_plus.inspector.building.survey import Survey
from part_images import save_parts


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def own_parts(images):
    return {str(path): str(path) for path in images}


def test_each_image_gets_two_copies_with_one_marked_defect_each(tmp_path):
    images = save_parts(tmp_path / "good", 3)
    found = write_synthetic(images, own_parts(images), tmp_path / "selection", seed=0)
    assert sorted(each["label"] for each in found) == [0] * 3 + [1] * 6
    assert len({each["image"] for each in found}) == 9
    assert {each["source"] for each in found} == {str(path) for path in images}
    for each in found:
        if each["label"]:
            mask = pixels(each["mask"]) > 0
            assert 0 < mask.mean() < 0.5
            assert each["kind"] != "good"
    part_of = dict(zip(map(str, images), "aab", strict=True))
    again = write_synthetic(images, part_of, tmp_path / "again", seed=0)
    assert [(each["part"], other["part"]) for each, other in zip(found, again, strict=True)] == [
        (each["source"], part_of[each["source"]]) for each in found
    ]
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(pixels(one["image"]), pixels(other["image"]))


@pytest.mark.parametrize("enlarged", [1, 8])
def test_defects_lie_in_the_region_of_interest(tmp_path, enlarged):
    region = np.zeros((48, 48), np.uint8)
    region[:, 24:] = 255
    Image.fromarray(region).resize((48 * enlarged, 48 * enlarged)).save(tmp_path / "roi.png")
    images = save_parts(tmp_path / "good", 6)
    for path in images:
        Image.open(path).resize((48 * enlarged, 48 * enlarged)).save(path)
    found = write_synthetic(images, own_parts(images), tmp_path / "selection", 0, tmp_path / "roi.png", (12, 12))
    masks = [pixels(each["mask"]) > 0 for each in found if each["label"]]
    assert all(mask.shape == (48, 48) for mask in masks)
    assert all(mask[:, 24:].any() for mask in masks)
    assert np.mean([mask[:, :22].any() for mask in masks]) == 0


@pytest.mark.parametrize(("image_size", "expected"), [((16, 16), (64, 128)), ((25, 8), (100, 200)), (None, (200, 400))])
def test_images_far_larger_than_the_networks_input_are_reduced(tmp_path, image_size, expected):
    (image,) = save_parts(tmp_path / "good", 1)
    Image.open(image).resize((400, 200)).save(image)
    found = write_synthetic([image], own_parts([image]), tmp_path / "selection", 0, image_size=image_size)
    assert {pixels(each["image"]).shape for each in found} == {(*expected, 3)}
    assert {pixels(each["mask"]).shape for each in found if each["mask"]} == {expected}
    assert {each["source"] for each in found} == {str(image)}


def test_bad_parts_and_their_masks(tmp_path):
    images = save_parts(tmp_path / "bad", 3)
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in images:
        Image.fromarray(np.full((48, 48), 255, np.uint8)).save(masks / f"{path.stem}_mask.png")
    found = bad_parts(tmp_path / "bad", masks)
    assert [each["mask"] for each in found] == [str(masks / f"{path.stem}_mask.png") for path in images]
    assert [each["mask"] for each in bad_parts(tmp_path / "bad", None)] == [None] * 3
    part = images[1].read_bytes()
    for name in ("part_001.png", "part_001.heic"):
        images[1].unlink()
        (tmp_path / "bad" / name).touch()
        unreadable = bad_parts(tmp_path / "bad", masks)
        with pytest.raises(ValueError, match=rf"1 image of a bad part cannot be .*{name} (is empty|has a format)"):
            check_bad_parts(unreadable, Survey(tmp_path, []))
        (tmp_path / "bad" / name).rename(images[1])
    images[1].write_bytes(part)
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(masks / "part_001_mask.png")
    with pytest.raises(ValueError, match=r"part_001_mask\.png is black, which marks no defect"):
        bad_parts(tmp_path / "bad", masks)
    Image.fromarray(np.full((20, 20), 255, np.uint8)).save(masks / "part_001_mask.png")
    with pytest.raises(ValueError, match=r"part_001_mask\.png has .* pixels, its image"):
        bad_parts(tmp_path / "bad", masks)
    (masks / "part_001_mask.png").unlink()
    with pytest.raises(ValueError, match=r"Images without a mask: .*part_001\.png"):
        bad_parts(tmp_path / "bad", masks)
    with pytest.raises(FileNotFoundError, match="correct --masks"):
        bad_parts(tmp_path / "bad", tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        bad_parts(tmp_path / "empty", None)


def test_masks_of_equal_names_are_told_by_their_folders(tmp_path):
    for kind in ("hole", "scratch"):
        save_parts(tmp_path / "bad" / kind, 1)
        (tmp_path / "masks" / kind).mkdir(parents=True)
        Image.fromarray(np.full((48, 48), 255, np.uint8)).save(tmp_path / "masks" / kind / "part_000_mask.png")
    found = bad_parts(tmp_path / "bad", tmp_path / "masks")
    assert [Path(each["mask"]).parent.name for each in found] == ["hole", "scratch"]


def test_a_name_in_another_name_is_told_apart(tmp_path):
    (part,) = save_parts(tmp_path, 1)
    for folder, names in (("bad", ("1", "1_2")), ("masks", ("1_mask", "1_2_mask"))):
        (tmp_path / folder).mkdir()
        for name in names:
            shutil.copyfile(part, tmp_path / folder / f"{name}.png")
    found = bad_parts(tmp_path / "bad", tmp_path / "masks")
    assert {Path(each["image"]).stem: Path(each["mask"]).stem for each in found} == {"1": "1_mask", "1_2": "1_2_mask"}
    (tmp_path / "masks" / "1_mask.png").rename(tmp_path / "masks" / "1_2_b.png")
    with pytest.raises(ValueError, match="Some images have several masks or share one"):
        bad_parts(tmp_path / "bad", tmp_path / "masks")


@pytest.mark.parametrize("use", ["comparison", "finish"])
def test_the_datamodule_gives_each_split_to_its_use(tmp_path, use):
    images = [entry(path, str(path)) for path in save_parts(tmp_path / "good", 6)]
    bad = [entry(path, str(path), 1) for path in save_parts(tmp_path / "bad", 1)]
    content = {"digest": "d", "training": images[:2], "calibration": images[2:4], "originals": images[4:]}
    content["selection"] = [images[5], *bad]
    (tmp_path / "splits.json").write_text(json.dumps(content))
    data = SplitData(tmp_path, "d", use)
    data.setup("fit")
    paths = [sorted(part.samples.image_path) for part in (data.train_data, data.val_data, data.test_data)]
    splits = {"comparison": ("selection", "selection"), "finish": ("originals", "calibration")}[use]
    assert paths == [sorted(each["image"] for each in content[name]) for name in ("training", *splits)]
    batch = next(iter(data.test_dataloader()))
    assert batch.gt_label.sum() == (use == "comparison")
    few = SplitData(tmp_path, "d", use, most_training_images=1)
    few.setup("fit")
    assert len(few.train_data) == 1
    with pytest.raises(ValueError, match="has the digest d, not e: run the build again"):
        SplitData(tmp_path, "e")
