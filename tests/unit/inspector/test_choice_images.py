"""Images to choose by, and the datamodule of the shares."""

import json

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.inspector.choice_images import bad_parts, entry, write_synthetic
from anomalib_plus.inspector.share_data import ShareData
from part_images import save_parts


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_each_image_gets_a_twin_with_one_marked_defect(tmp_path):
    images = save_parts(tmp_path / "good", 3)
    found = write_synthetic(images, tmp_path / "choice", seed=0)
    assert sorted(each["label"] for each in found) == [0, 0, 0, 1, 1, 1]
    assert {each["source"] for each in found} == {str(path) for path in images}
    for each in found:
        if each["label"]:
            mask = pixels(each["mask"]) > 0
            assert 0 < mask.mean() < 0.5
            assert each["kind"] != "good"
    again = write_synthetic(images, tmp_path / "again", seed=0)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(pixels(one["image"]), pixels(other["image"]))


def test_defects_lie_in_the_region_of_interest(tmp_path):
    region = np.zeros((48, 48), np.uint8)
    region[:, 24:] = 255
    Image.fromarray(region).save(tmp_path / "roi.png")
    found = write_synthetic(save_parts(tmp_path / "good", 6), tmp_path / "choice", 0, tmp_path / "roi.png")
    masks = [pixels(each["mask"]) > 0 for each in found if each["label"]]
    assert all(mask[:, 24:].any() for mask in masks)
    assert np.mean([mask[:, :22].any() for mask in masks]) == 0


def test_bad_parts_and_their_masks(tmp_path):
    images = save_parts(tmp_path / "bad", 3)
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in images:
        Image.fromarray(np.full((48, 48), 255, np.uint8)).save(masks / f"{path.stem}_mask.png")
    found = bad_parts(tmp_path / "bad", masks)
    assert [each["mask"] for each in found] == [str(masks / f"{path.stem}_mask.png") for path in images]
    assert [each["mask"] for each in bad_parts(tmp_path / "bad", None)] == [None] * 3
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


@pytest.mark.parametrize("validation", ["choice", "calibration"])
def test_the_datamodule_gives_each_share_to_its_use(tmp_path, validation):
    images = [entry(path, str(path)) for path in save_parts(tmp_path / "good", 6)]
    bad = [entry(path, str(path), 1) for path in save_parts(tmp_path / "bad", 1)]
    content = {"digest": "d", "training": images[:3], "calibration": images[3:5], "choice": [images[5], *bad]}
    (tmp_path / "shares.json").write_text(json.dumps(content))
    data = ShareData(tmp_path, "d", validation)
    data.setup("fit")
    paths = [sorted(part.samples.image_path) for part in (data.train_data, data.val_data, data.test_data)]
    expected = {"choice": content["choice"], "calibration": content["calibration"]}[validation]
    assert paths[0] == [each["image"] for each in content["training"]]
    assert paths[1] == sorted(each["image"] for each in expected)
    assert paths[2] == sorted(each["image"] for each in content["choice"])
    batch = next(iter(data.test_dataloader()))
    assert batch.gt_label.sum() == 1
    with pytest.raises(ValueError, match="has the digest d, not e: run the build again"):
        ShareData(tmp_path, "e")
