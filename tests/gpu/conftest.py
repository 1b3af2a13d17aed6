"""The device under test: CUDA; or the CPU, to try the tests themselves, if ANOMALIB_PLUS_GPU_TESTS is ``cpu``."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor

from anomalib_plus import models
from contract.small_models import SmallModel, quiet_engine

ON_CPU = os.environ.get("ANOMALIB_PLUS_GPU_TESTS") == "cpu"
STEPS = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="needs CUDA; ANOMALIB_PLUS_GPU_TESTS=cpu runs what a CPU can")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("gpu")
            if not ON_CPU and not torch.cuda.is_available():
                item.add_marker(skip)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu" if ON_CPU else "cuda")


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    """Compare without TF32, which rounds to ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


class StepLosses(Callback):
    """Keeps the loss of each step, in one list for each phase of the training."""

    def __init__(self) -> None:
        self.phases: list[tuple[list[str], list[Tensor]]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        names = list(pl_module.loss_terms.terms)
        if not self.phases or self.phases[-1][0] != names:
            self.phases.append((names, []))
        self.phases[-1][1].append(pl_module.loss_terms.total)


class Trained(NamedTuple):
    model: AnomalibModule
    engine: Engine
    losses: StepLosses


class Trainings:
    """Trains a small model on six images for a few steps."""

    def __init__(self, root: Path, folder: Path, device: torch.device) -> None:
        self.root, self.folder = root, folder
        self.accelerator = "gpu" if device.type == "cuda" else "cpu"

    def data(self) -> MVTecAD:
        return MVTecAD(root=self.root, category="surface", num_workers=0, train_batch_size=2, eval_batch_size=4)

    def engine(self, **arguments: Any) -> Engine:
        losses = StepLosses()
        defaults = {"accelerator": self.accelerator, "default_root_dir": self.folder, "max_steps": STEPS}
        engine = quiet_engine(**{**defaults, **arguments, "callbacks": [losses, *arguments.get("callbacks", [])]})
        engine.losses = losses
        return engine

    def train(self, model: AnomalibModule, checkpoint: Path | None = None, **arguments: Any) -> Trained:
        seed_everything(0, verbose=False)
        engine = self.engine(**arguments)
        engine.fit(model, datamodule=self.data(), ckpt_path=checkpoint)
        return Trained(model.eval(), engine, engine.losses)


@pytest.fixture(scope="package", params=models.__all__)
def small_model(request: pytest.FixtureRequest) -> SmallModel:
    return SmallModel.named(request.param)


@pytest.fixture(scope="package")
def trainings(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Trainings:
    return Trainings(mvtec_layout, tmp_path_factory.mktemp("gpu"), device)


@pytest.fixture(scope="package")
def trained(small_model: SmallModel, trainings: Trainings) -> Trained:
    """Read-only: trained in float32."""
    seed_everything(0, verbose=False)
    return trainings.train(small_model.build())


@pytest.fixture(scope="package")
def images(trainings: Trainings) -> Tensor:
    """Test images (6, 3, 64, 64), three of them defective."""
    data = trainings.data()
    data.setup()
    return torch.stack([data.test_data[index].image.as_subclass(Tensor) for index in range(6)])
