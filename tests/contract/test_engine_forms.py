"""Forms of anomalib's engine that the other files do not use."""

import json
from pathlib import Path

import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from sklearn.metrics import roc_auc_score

from .conftest import Surfaces, Trained
from .small_models import IMAGE_SIZE, SmallModel, quiet_engine


def test_from_config_with_data_and_an_overriding_option(small_model: SmallModel, mvtec_layout: Path) -> None:
    """One file describes model, data and trainer by bare names; options on top of it win."""
    resize = {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": list(IMAGE_SIZE)}}
    pre_processor = {"class_path": "anomalib.pre_processing.PreProcessor", "init_args": {"transform": resize}}
    arguments = {**small_model.arguments, "pre_processor": pre_processor, "visualizer": False}
    data = {"root": str(mvtec_layout), "category": "surface", "num_workers": 0, "train_batch_size": 2}
    config = {
        "model": {"class_path": small_model.name, "init_args": arguments},
        "data": {"class_path": "MVTecAD", "init_args": data},
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 5, "limit_train_batches": 1, "logger": False},
    }
    Path("config.yaml").write_text(json.dumps(config))
    engine, model, datamodule = Engine.from_config("config.yaml", **{"trainer.max_epochs": 1})
    assert isinstance(datamodule, MVTecAD)
    assert model.input_size == IMAGE_SIZE
    engine.fit(model, datamodule=datamodule)
    assert engine.trainer.global_step == 1
    (metrics,) = engine.test(model, datamodule=datamodule, verbose=False)
    assert {"image_AUROC", "pixel_AUROC"} <= set(metrics)


def test_barebones_trainer(small_model: SmallModel, trained: Trained, surfaces: Surfaces) -> None:
    """No loggers, no checkpoints and no ``self.log``: it trains all the same, and measures the same numbers."""
    engine = Engine(barebones=True, max_epochs=1, accelerator="cpu", devices=1)
    model = small_model.build()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    engine.fit(model, datamodule=surfaces())
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    (metrics,) = engine.test(small_model.build(), datamodule=surfaces(), ckpt_path=trained.checkpoint, verbose=False)
    assert metrics == pytest.approx(trained.metrics, abs=1e-6)
    assert not list(Path().rglob("*.ckpt"))


def test_anomalib_measures_what_scikit_learn_measures(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, surface_batch: ImageBatch
) -> None:
    """On raw scores: its post-processor clamps them, and outside [0, 1] torchmetrics would squash each batch."""
    by_image = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
    by_pixel = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_")
    model = small_model.build(post_processor=False, evaluator=Evaluator(test_metrics=[by_image, by_pixel]))
    model.model.load_state_dict(trained.model.model.state_dict())
    (measured,) = quiet_engine().test(model, datamodule=surfaces(), verbose=False)
    with torch.inference_mode():
        output = trained.model.model.eval()(surface_batch.image)
    masks, maps = surface_batch.gt_mask.flatten(), output.anomaly_map.flatten()
    assert measured["image_AUROC"] == pytest.approx(roc_auc_score(surface_batch.gt_label, output.pred_score), abs=1e-6)
    assert measured["pixel_AUROC"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-4)
