"""Our models in anomalib's pipelines, named as users name them."""

from argparse import Namespace
from functools import partial
from pathlib import Path

import anomalib.models
import pandas as pd
import pytest
import yaml
from anomalib.cli import AnomalibCLI
from anomalib.engine import Engine
from anomalib.pipelines.benchmark import job
from anomalib.pipelines.tiled_ensemble import EvalTiledEnsemble, TrainTiledEnsemble

from anomalib_plus import RamFAE


@pytest.fixture
def data(mvtec_layout) -> dict:
    arguments = {"root": str(mvtec_layout), "category": "surface", "num_workers": 0, "train_batch_size": 2}
    return {"class_path": "MVTec", "init_args": arguments}


def write(config: dict) -> str:
    Path("pipeline.yaml").write_text(yaml.safe_dump(config))
    return "pipeline.yaml"


def test_benchmark(data, monkeypatch):
    # The pipeline takes no arguments for the trainer and would train 1000 epochs; nor does it take a pre-processor.
    monkeypatch.setattr(RamFAE, "default_image_size", (64, 64))
    monkeypatch.setattr(job, "Engine", partial(Engine, max_epochs=1, limit_train_batches=1, logger=False))
    small = {"channels": [4, 8, 16, 32], "smoothing_kernel": 5, "visualizer": False}
    model = {"class_path": "RamFAE", "init_args": small}
    benchmark = {"seed": 1, "model": model, "data": data}
    AnomalibCLI(["benchmark", "--config", write({"accelerator": "cpu", "benchmark": benchmark})])
    results = list(Path("runs/benchmark").rglob("results.csv"))
    assert results, Path("runs/pipeline.log").read_text()
    (row,) = pd.read_csv(results[0]).to_dict("records")
    assert row["model.class_path"] == "RamFAE"
    assert row["data.class_path"] == "MVTec"
    assert 0 <= row["image_AUROC"] <= 1
    assert 0 <= row["pixel_AUROC"] <= 1


def test_tiled_ensemble(data, monkeypatch):
    # anomalib 2.7 cannot combine init_args with the pre-processor that the ensemble passes.
    monkeypatch.setattr(anomalib.models, "RamFAE", partial(RamFAE, channels=(4, 8, 16, 32), smoothing_kernel=5))
    data["init_args"] |= {"test_split_mode": "from_dir", "val_split_mode": "same_as_test"}
    trainer = {"max_epochs": 1, "limit_train_batches": 1, "logger": False, "enable_progress_bar": False}
    config = write(
        {
            "seed": 1,
            "accelerator": "cpu",
            "default_root_dir": "results",
            "tiling": {"image_size": [64, 64], "tile_size": [64, 32], "stride": [64, 32]},
            "normalization_stage": "image",
            "thresholding_stage": "image",
            "data": data,
            "SeamSmoothing": {"apply": False},
            "TrainModels": {"model": {"class_path": "RamFAE"}, "trainer": trainer},
        }
    )
    training = TrainTiledEnsemble()
    training.run(Namespace(config=config))
    weights = training.root_dir / "weights" / "lightning"
    log = Path("runs/pipeline.log").read_text()
    assert {file.name for file in weights.iterdir()} >= {"model0_0.ckpt", "model0_1.ckpt", "stats.json"}, log

    EvalTiledEnsemble(training.root_dir).run(Namespace(config=config))
    log = Path("runs/pipeline.log").read_text()
    assert list(training.root_dir.rglob("images/**/*.png")), log
    metrics = pd.read_csv(next(training.root_dir.rglob("metric_results.csv")))
    assert metrics.filter(like="AUROC").notna().all(axis=None), log
