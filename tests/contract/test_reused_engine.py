"""An engine that has trained checks the data of its next stage, and no others."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from anomalib.data import MVTecAD, PredictDataset
from anomalib.data.datasets.image.folder import FolderDataset
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_plus.data import PredictImages

from .small_models import SmallModel, quiet_engine


class Used(NamedTuple):
    """An engine that has trained a model."""

    engine: Engine
    model: AnomalibModule


@pytest.fixture(scope="module")
def used(small_model: SmallModel, mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Used:
    """The files of the training are bad by now: no later stage reads them."""
    folder = tmp_path_factory.mktemp("used")
    category = shutil.copytree(mvtec_layout, folder / "data") / "surface"
    engine = quiet_engine(max_epochs=1, limit_train_batches=1, default_root_dir=folder)
    model = small_model.build()
    engine.fit(model, datamodule=MVTecAD(root=category.parent, category="surface", num_workers=0, train_batch_size=2))
    (category / "ground_truth" / "defect" / "001_mask.png").unlink()
    for image in (category / "test").rglob("*.png"):
        image.write_bytes(image.read_bytes()[:200])
    return Used(engine, model)


def loader_of(folder: Path) -> DataLoader:
    dataset = FolderDataset(name="new", normal_dir=folder)
    return DataLoader(dataset, batch_size=1, collate_fn=dataset.collate_fn)


STAGES: dict[str, Callable[[Engine, AnomalibModule, Path], object]] = {
    "predict a path": lambda engine, model, folder: engine.predict(model, data_path=folder),
    "predict a data set": lambda engine, model, folder: engine.predict(model, dataset=PredictDataset(folder)),
    "predict loaders": lambda engine, model, folder: engine.predict(model, dataloaders=loader_of(folder)),
    "test loaders": lambda engine, model, folder: engine.test(model, dataloaders=loader_of(folder), verbose=False),
    "validate loaders": lambda engine, model, folder: engine.validate(model, dataloaders=loader_of(folder)),
}


@pytest.fixture
def folder(mvtec_layout: Path, tmp_path: Path) -> Path:
    return shutil.copytree(mvtec_layout / "surface" / "test" / "good", tmp_path / "new")


def add_deep_images(folder: Path) -> None:
    pixels = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    Image.fromarray((pixels * 65535).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(pixels).save(folder / "real.tif")


@pytest.mark.parametrize("stage", STAGES)
def test_deep_images_are_refused_by_name(used: Used, folder: Path, stage: str) -> None:
    STAGES[stage](*used, folder)
    assert used.engine.trainer.state.finished
    add_deep_images(folder)
    message = r"(?s)2 image files .*new/deep\.png: has pixels of more than 8 bits.*new/real\.tif: has pixels of more"
    with pytest.raises(ValueError, match=message):
        STAGES[stage](*used, folder)


def test_skipped_images_are_listed(used: Used, folder: Path) -> None:
    add_deep_images(folder)
    batches = used.engine.predict(used.model, dataset=PredictImages(folder, skip_bad_images=True))
    assert len(batches) == 3
    with (Path(used.engine.trainer.default_root_dir) / "skipped_images.csv").open(newline="") as stream:
        assert [Path(row["path"]).name for row in csv.DictReader(stream)] == ["deep.png", "real.tif"]
