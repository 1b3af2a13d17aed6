"""Training images that are read once and kept in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import Folder, ImageItem
from anomalib.data.utils import read_image
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, RandomHorizontalFlip, Resize

from anomalib_plus.training import kept_images
from anomalib_plus.training.kept_images import KeepImages

BYTES = 3 * 20 * 30 * 4
FILES = 4


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a datamodule of good images, the one of the trainer's stage."""
    (tmp_path / "good").mkdir()
    for number, side in enumerate((40, 40, 64, 90)):
        pixels = np.random.default_rng(number).integers(0, 255, (side, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "good" / f"{number}.png")

    def datamodule(**arguments: Any) -> Folder:
        defaults = {"test_split_mode": "none", "val_split_mode": "none", "num_workers": 0, "train_batch_size": 2}
        defaults["train_augmentations"] = Resize((20, 30), antialias=True)
        made = Folder("parts", "good", root=tmp_path, **{**defaults, **arguments})
        made.setup()
        monkeypatch.setattr(kept_images, "datamodule_of_stage", lambda _: made)
        return made

    return datamodule


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that the dataset reads."""
    found: list[str] = []
    monkeypatch.setattr(
        "anomalib.data.datasets.base.image.read_image",
        lambda path, as_tensor: found.append(str(path)) or read_image(path, as_tensor=as_tensor),
    )
    return found


@pytest.mark.parametrize("kept", [FILES, 2])
def test_each_image_is_read_once_as_far_as_memory_reaches(
    parts: Any, kept: int, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    datamodule = parts()
    monkeypatch.setattr(kept_images, "MOST_BYTES", kept * BYTES)
    original, callback, nothing = datamodule.train_data, KeepImages(), None
    expected: dict[str, ImageItem] = {item.image_path: item for item in map(original.__getitem__, range(FILES))}
    reads.clear()
    callback.setup(nothing, nothing, "fit")  # type: ignore[arg-type]
    for batch in (batch for _ in range(3) for batch in datamodule.train_dataloader()):
        for path, image, label in zip(batch.image_path, batch.image, batch.gt_label, strict=True):
            torch.testing.assert_close(image, expected[path].image, rtol=0, atol=0)
            assert label == 0
    assert len(reads) == kept + 3 * (FILES - kept)
    images = datamodule.train_data
    subset = images.subsample([1, 3])
    assert [subset[index].image_path for index in range(2)] == subset.samples.image_path.tolist()
    assert (images.root, images.split) == (original.root, original.split)
    callback.teardown(nothing, nothing, "fit")  # type: ignore[arg-type]
    assert datamodule.train_data is original
    reads.clear()
    assert images[0].image_path in reads, "a trainer refers to them for longer than the training"


def test_a_crop_does_not_keep_the_whole_image(parts: Any) -> None:
    datamodule = parts(train_augmentations=Compose([Resize((400, 400)), CenterCrop((20, 30))]))
    callback, nothing = KeepImages(), None
    callback.setup(nothing, nothing, "fit")  # type: ignore[arg-type]
    item = datamodule.train_data[0]
    assert datamodule.train_data[0] is item
    assert item.image.untyped_storage().nbytes() == BYTES


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [({"train_augmentations": RandomHorizontalFlip()}, "fit"), ({"num_workers": 1}, "fit"), ({}, "validate")],
)
def test_images_that_may_differ_or_are_read_elsewhere_are_not_kept(
    parts: Any, arguments: dict[str, Any], stage: str
) -> None:
    datamodule = parts(**arguments)
    original = datamodule.train_data
    KeepImages().setup(None, None, stage)  # type: ignore[arg-type]
    assert datamodule.train_data is original


def test_the_dataset_comes_back_after_an_error(parts: Any) -> None:
    datamodule = parts()
    original, callback, nothing = datamodule.train_data, KeepImages(), None
    callback.setup(nothing, nothing, "fit")  # type: ignore[arg-type]
    assert datamodule.train_data is not original
    callback.on_exception(nothing, nothing, ValueError())  # type: ignore[arg-type]
    assert datamodule.train_data is original
