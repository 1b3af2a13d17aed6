"""The models under test, one of them trained, and the data."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.models import AnomalibModule
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader

from anomalib_plus import models

from .small_models import SmallModel, quiet_engine

TRAINING_EPOCHS = 20

Surfaces = Callable[..., MVTecAD]


class Trained(NamedTuple):
    """A model after a short training, the checkpoint of its last epoch and the results of its test."""

    model: AnomalibModule
    checkpoint: Path
    metrics: dict[str, float]


@pytest.fixture(scope="package", params=models.__all__)
def small_model(request: pytest.FixtureRequest) -> SmallModel:
    return SmallModel.named(request.param)


@pytest.fixture(scope="package")
def surfaces(mvtec_layout: Path) -> Surfaces:
    """Makes datamodules: 6 training images in batches of 2, 6 test images in batches of 4."""

    def datamodule(train_batch_size: int = 2) -> MVTecAD:
        return MVTecAD(
            root=mvtec_layout, category="surface", num_workers=0, train_batch_size=train_batch_size, eval_batch_size=4
        )

    return datamodule


@pytest.fixture(scope="package")
def surface_batch(surfaces: Surfaces) -> ImageBatch:
    """All test images with their masks, as the datamodule reads them; the first three have a defect."""
    datamodule = surfaces()
    datamodule.setup()
    return datamodule.test_data.collate_fn([datamodule.test_data[index] for index in range(6)])


@pytest.fixture(scope="session")
def trainings() -> dict[str, Trained]:
    """By model: the processes of xdist change between the models more often than pytest does by itself."""
    return {}


@pytest.fixture(scope="package")
def trained(
    small_model: SmallModel,
    surfaces: Surfaces,
    tmp_path_factory: pytest.TempPathFactory,
    trainings: dict[str, Trained],
) -> Trained:
    """Read-only: whoever changes the model takes a copy."""
    if small_model.name not in trainings:
        trainings[small_model.name] = train(small_model, surfaces, tmp_path_factory.mktemp("training"))
    return trainings[small_model.name]


def train(small_model: SmallModel, surfaces: Surfaces, folder: Path) -> Trained:
    seed_everything(0, verbose=False)
    model = small_model.build()
    engine = quiet_engine(
        max_epochs=TRAINING_EPOCHS,
        check_val_every_n_epoch=TRAINING_EPOCHS,
        default_root_dir=folder,
    )
    engine.fit(model, datamodule=surfaces())
    (metrics,) = engine.test(model, datamodule=surfaces(), verbose=False)
    return Trained(model.eval(), Path(engine.best_model_path), metrics)


@pytest.fixture
def ordered_loader(surfaces: Surfaces) -> Callable[[int], DataLoader]:
    """Makes loaders of the training images in batches of a size, always in the same order."""
    datamodule = surfaces()
    datamodule.setup()

    def loader(batch_size: int) -> DataLoader:
        return DataLoader(datamodule.train_data, batch_size, collate_fn=datamodule.train_data.collate_fn)

    return loader


@pytest.fixture
def images() -> torch.Tensor:
    """Random images (4, 3, 64, 64) in [0, 1]."""
    return torch.rand(4, 3, 64, 64)
