"""``python tests/predict_many.py MODEL FOLDER [--draw] [--keep]``: megabytes by which a long prediction run grows.

A process of its own for each run: what an earlier one has freed would hide what a later one loses.
"""

import argparse
from pathlib import Path

import psutil
import torch
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import Callback

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


def predict(name: str, folder: Path, draw: bool = False, keep: bool = False) -> tuple[MemoryRecord, object]:
    """Predict all images of a folder; with pictures, or with the predictions returned, if asked for."""
    record = MemoryRecord()
    model = SmallModel.named(name).build(visualizer=draw and ImageVisualizer())
    engine = quiet_engine(callbacks=[record])
    return record, engine.predict(model, dataset=PredictImages(folder), return_predictions=keep)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured, _ = predict(options.model, options.folder, options.draw, options.keep)
    print(len(measured.resident), f"{measured.growth:.1f}")
