"""The model in anomalib's pipelines, named as users name it."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import anomalib.models
import pandas as pd
import pytest
import yaml
from anomalib.cli import AnomalibCLI
from anomalib.engine import Engine
from anomalib.pipelines.benchmark import job
from anomalib.pipelines.tiled_ensemble import EvalTiledEnsemble, TrainTiledEnsemble

from .small_models import IMAGE_SIZE, SmallModel


@pytest.fixture
def data(mvtec_layout: Path) -> dict[str, Any]:
    arguments = {"root": str(mvtec_layout), "category": "surface", "num_workers": 0, "train_batch_size": 2}
    return {"class_path": "MVTec", "init_args": arguments}


def first_error() -> str:
    """What was raised first in the pipelines of this folder, if anything: they only write it into their log."""
    lines = Path("runs/pipeline.log").read_text().splitlines()
    return next((line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)), "")


def write(config: dict[str, Any]) -> list[str]:
    Path("pipeline.yaml").write_text(yaml.safe_dump(config))
    return ["--config", "pipeline.yaml"]


def test_benchmark(small_model: SmallModel, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline hands no arguments to the trainer, and would train 1000 epochs; nor does it take a pre-processor."""
    monkeypatch.setattr(small_model.cls, "default_image_size", IMAGE_SIZE)
    monkeypatch.setattr(job, "Engine", partial(Engine, max_epochs=1, limit_train_batches=1, logger=False))
    model = {"class_path": small_model.name, "init_args": {**small_model.arguments, "visualizer": False}}
    config = {"accelerator": "cpu", "benchmark": {"seed": {"grid": [1, 2]}, "model": model, "data": data}}
    AnomalibCLI(["benchmark", *write(config)])
    assert not first_error()
    (results,) = Path("runs/benchmark").rglob("results.csv")
    rows = pd.read_csv(results)
    assert rows["seed"].to_list() == [1, 2]
    assert set(rows["model.class_path"]) == {small_model.name}
    assert set(rows["data.class_path"]) == {"MVTec"}
    for metric in ("image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"):
        assert rows[metric].between(0, 1).all(), metric


def test_tiled_ensemble(small_model: SmallModel, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiles side by side: trained one by one, predicted, put together, drawn and evaluated as one image."""
    # anomalib 2.7 cannot combine init_args of any model with the pre-processor that the ensemble passes.
    small = partial(small_model.cls, **small_model.arguments)
    monkeypatch.setattr(anomalib.models, small_model.name, small)
    data["init_args"] |= {"test_split_mode": "from_dir", "val_split_mode": "same_as_test"}
    trainer = {"max_epochs": 1, "limit_train_batches": 1, "logger": False, "enable_progress_bar": False}
    options = write(
        {
            "seed": 1,
            "accelerator": "cpu",
            "default_root_dir": "results",
            "tiling": {"image_size": [64, 128], "tile_size": [64, 64], "stride": [64, 64]},
            "normalization_stage": "image",
            "thresholding_stage": "image",
            "data": data,
            "SeamSmoothing": {"apply": True, "sigma": 2, "width": 0.1},
            "TrainModels": {"model": {"class_path": small_model.name}, "trainer": trainer},
        }
    )
    training = TrainTiledEnsemble()
    training.run(training.get_parser().parse_args(options))
    assert not first_error()
    weights = {file.name for file in (training.root_dir / "weights" / "lightning").iterdir()}
    assert weights >= {"model0_0.ckpt", "model0_1.ckpt", "stats.json"}

    evaluation = EvalTiledEnsemble(training.root_dir)
    evaluation.run(evaluation.get_parser().parse_args(options))
    assert not first_error()
    images = [file.name for file in (training.root_dir / "images" / "defect").iterdir()]
    assert sorted(images) == ["000.png", "001.png", "002.png"]
    (metrics,) = pd.read_csv(training.root_dir / "metric_results.csv").to_dict("records")
    scores = {name: value for name, value in metrics.items() if name.endswith(("AUROC", "F1Score"))}
    assert len(scores) == 4
    assert all(0 <= value <= 1 for value in scores.values()), scores
