"""Memory stays flat over long prediction runs, with and without the pictures that the visualizer draws."""

from pathlib import Path

import numpy as np
import psutil
import pytest
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import Callback
from PIL import Image

from anomalib_plus import models
from anomalib_plus.data import PredictImages
from contract.small_models import SmallModel, quiet_engine

MEGABYTE = 2**20
WARM_UP = 0.1
"""Share of a run after which caches and pools are full."""


class MemoryRecord(Callback):
    """The memory that the process holds after each batch."""

    def __init__(self) -> None:
        self.resident: list[int] = []

    def on_predict_batch_end(self, *_: object, **__: object) -> None:
        self.resident.append(psutil.Process().memory_info().rss)

    @property
    def growth(self) -> float:
        """Megabytes by which the largest value after the warm-up exceeds the one at its end."""
        warm = self.resident[round(WARM_UP * len(self.resident)) :]
        return (max(warm) - warm[0]) / MEGABYTE


def write_images(folder: Path, count: int) -> Path:
    """Pictures of 64 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for number in range(count):
        Image.fromarray(np.roll(pixels, number, axis=0)).save(folder / f"{number:04d}.png", compress_level=1)
    return folder


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("many"), 2000)


def predict(name: str, folder: Path, visualizer: ImageVisualizer | bool, keep: bool) -> tuple[MemoryRecord, object]:
    record = MemoryRecord()
    model = SmallModel.named(name).build(visualizer=visualizer)
    engine = quiet_engine(callbacks=[record])
    return record, engine.predict(model, dataset=PredictImages(folder), return_predictions=keep)


def test_memory_is_flat_over_200_images(tmp_path: Path) -> None:
    record, predictions = predict("RamFAE", write_images(tmp_path, 200), visualizer=False, keep=False)
    assert predictions is None
    assert len(record.resident) == 200
    assert record.growth < 10


@pytest.mark.slow
@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("name", models.__all__)
def test_memory_is_flat_over_2000_images(many_images: Path, name: str, draw: bool) -> None:
    record, _ = predict(name, many_images, draw and ImageVisualizer(), keep=False)
    assert len(record.resident) == 2000
    print(f"{name}, {'with' if draw else 'without'} pictures: {record.growth:.1f} MB")
    assert record.growth < 50
    assert len(list(Path("results").rglob("images/**/*.png"))) == (2000 if draw else 0)


@pytest.mark.slow
def test_predictions_that_are_returned_are_held(many_images: Path) -> None:
    """What anomalib returns by default: each image and its map, here 64 KB and more."""
    record, predictions = predict("RamFAE", many_images, visualizer=False, keep=True)
    print(f"returned predictions: {record.growth:.1f} MB")
    assert len(predictions) == 2000
    assert record.growth > 50
