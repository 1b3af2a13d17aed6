"""Data that are unusual, but right: data sets of one's own, and files beside the images that anomalib does not read."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anomalib.data import AnomalibDataModule, AnomalibDataset, Folder, ImageBatch, MVTecAD
from pandas import DataFrame
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from .conftest import Surfaces
from .small_models import SmallModel, quiet_engine

ATTRIBUTES: list[dict[str, Any]] = [
    {"samples": [("a.png", 0)]},
    {"samples": DataFrame({"file": ["a.png"]})},
    {"indices": [0]},
    {"datasets": 3},
    {"image_filenames": ["a.png"]},
]
"""What data sets of one's own may have: names that anomalib and torch use for something else."""


class Own(Dataset):
    """The items of another data set, with further attributes."""

    def __init__(self, source: AnomalibDataset, attributes: dict[str, Any]) -> None:
        self._source = source
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        return self._source[index]


def test_data_sets_of_ones_own_train_validate_and_predict(small_model: SmallModel, surfaces: Surfaces) -> None:
    datamodule = surfaces()
    datamodule.setup()
    train, *loaders = (
        DataLoader(Own(source, attributes), batch_size=3, collate_fn=ImageBatch.collate)
        for attributes in ATTRIBUTES
        for source in (datamodule.train_data, datamodule.test_data)
    )
    engine, model = quiet_engine(max_epochs=2, limit_train_batches=1), small_model.build()
    engine.fit(model, train_dataloaders=train, val_dataloaders=loaders[0])
    assert len(engine.predict(model, dataloaders=loaders)) == len(loaders)


def preview_beside_mvtec(category: Path) -> AnomalibDataModule:
    for image in (category / "test" / "defect").glob("*.png"):
        Image.new("RGB", (8, 8)).save(image.with_name(f"{image.stem}_preview.jpg"))
    return MVTecAD(root=category.parent, category=category.name, num_workers=0, eval_batch_size=4)


def twins_in_a_folder(category: Path) -> AnomalibDataModule:
    for image in (category / "test").rglob("*.png"):
        Image.open(image).save(image.with_suffix(".bmp"))
    return Folder(
        name="twins",
        root=category,
        normal_dir="train/good",
        abnormal_dir="test/defect",
        normal_test_dir="test/good",
        mask_dir="ground_truth/defect",
        extensions=(".png",),
        num_workers=0,
        eval_batch_size=4,
        val_split_mode="same_as_test",
    )


@pytest.mark.parametrize("arrange", [preview_beside_mvtec, twins_in_a_folder])
def test_files_that_anomalib_does_not_read_are_left_alone(
    small_model: SmallModel, mvtec_layout: Path, tmp_path: Path, arrange: Callable[[Path], AnomalibDataModule]
) -> None:
    category = shutil.copytree(mvtec_layout, tmp_path / "copy") / "surface"
    engine, model = quiet_engine(max_epochs=1, limit_train_batches=1), small_model.build()
    engine.fit(model, datamodule=arrange(category))
    (metrics,) = engine.test(model, datamodule=arrange(category), verbose=False)
    assert len(engine.trainer.test_dataloaders.dataset) == 6
    assert "pixel_AUROC" in metrics
