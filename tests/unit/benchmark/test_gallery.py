"""Choice of the gallery's test images, and their files."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from anomalib_plus.benchmark import gallery
from anomalib_plus.benchmark.evaluation import Predictions


def test_images_are_chosen_by_rank():
    scores, labels = np.arange(10.0), np.arange(10) % 2 == 1
    given = Predictions(scores, labels, [], None, None, None)
    chosen = gallery.choose(given, 2, seed=0)
    assert (chosen["best"], chosen["worst"]) == ([9, 7], [1, 3])
    assert chosen["random"] == [5]
    assert chosen["worst_good"] == [8, 6]
    assert len(set(chosen["random_good"])) == 2
    assert set(chosen["random_good"]) <= {0, 2, 4}
    assert chosen == gallery.choose(given, 2, seed=0)
    few = gallery.choose(Predictions(scores, scores > 8, [], None, None, None), 2, seed=0)
    assert (few["best"], few["worst"], few["random"]) == ([9], [], [])
    none = gallery.choose(Predictions(scores, scores < 0, [], None, None, None), 2, seed=0)
    assert (none["best"], none["worst_good"]) == ([], [9, 8])
    assert not any(gallery.choose(given, 0, seed=0).values()), "0 images of each kind"


def test_the_map_lies_over_the_image(tmp_path):
    image = np.full((8, 8, 3), (90, 120, 60), np.uint8)
    Image.fromarray(image).save(tmp_path / "good.png")
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 0, 0] = 1
    masks = np.zeros((1, 8, 8), bool)
    given = Predictions(np.ones(1), masks[:, 0, 0], [str(tmp_path / "good.png")], maps, masks, None)
    model = SimpleNamespace(pre_processor=None, model=None)
    (entry,) = gallery.save_gallery(model, given, tmp_path, "x", 1, 0, torch.device("cpu"))
    assert (entry["kind"], entry["files"]["mask"]) == ("worst_good", None)
    with (
        Image.open(tmp_path / "worst_good0_overlay.png") as overlay,
        Image.open(tmp_path / "worst_good0_map.png") as map_,
    ):
        shown, colours = np.asarray(overlay), np.asarray(map_)
    assert (shown.reshape(-1, 3)[1:] == image[0, 0]).all(), "the part is visible where the map is low"
    assert np.abs(shown[0, 0] - (0.8 * colours[0, 0] + 0.2 * image[0, 0])).max() <= 2


def test_relative_paths_keep_the_folder_that_all_share():
    assert gallery.relative_paths(["/d/c/test/a/0.png", "/d/c/test/b/1.png"]) == ["test/a/0.png", "test/b/1.png"]
    assert gallery.relative_paths(["/d/c/test/a/0.png"]) == ["test/a/0.png"]
