"""Thresholds from good images with a region of interest, from training to the exported graph, for any model."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from anomalib.data import Folder, ImageBatch
from anomalib.deploy import ExportType, TorchInferencer
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_plus import AstMFR, ConformalPostProcessor

BACKBONE: dict[str, Any] = {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "pre_trained": False}
MODELS: dict[str, tuple[type[AnomalibModule], dict[str, Any]]] = {
    "PaDiM": (Padim, {**BACKBONE, "n_features": 8}),
    "PatchCore": (Patchcore, {**BACKBONE, "coreset_sampling_ratio": 0.1}),
    "AstMFR": (AstMFR, {"teacher": "test_resnet", "student": "test_efficientnet", "pre_trained": False}),
}
TOLERANCE = 2e-3
"""The scale is steep around the threshold: a quarter of the distance to the median is one step."""


@pytest.fixture(params=["PaDiM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("PatchCore", "AstMFR"))])
def decided(request: pytest.FixtureRequest, mvtec_layout: Path, tmp_path: Path) -> tuple[Engine, AnomalibModule, Path]:
    """A model trained on good images alone, two of which gave the threshold."""
    cls, arguments = MODELS[request.param]
    mask = np.zeros((64, 64), np.uint8)
    mask[8:56, 8:56] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    transform = Compose([Resize((64, 64)), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    torch.manual_seed(0)
    model = cls(
        **arguments,
        pre_processor=AstMFR.configure_pre_processor((64, 64)) if cls is AstMFR else PreProcessor(transform=transform),
        post_processor=ConformalPostProcessor(0.4, roi=tmp_path / "mask.png"),
        visualizer=False,
    )
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    engine = Engine(accelerator="cpu", devices=1, max_epochs=20, default_root_dir=tmp_path, **silent)
    good = Folder(
        "good", mvtec_layout / "surface" / "train" / "good", val_split_mode="from_train", seed=0, num_workers=0
    )
    engine.fit(model, datamodule=good)
    return engine, model.eval(), tmp_path


def test_every_backend_decides_alike(
    decided: tuple[Engine, AnomalibModule, Path], mvtec_layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, model, folder = decided
    found = model.post_processor
    assert (found.n, found.supported_rate) == (2, 1 / 3)
    assert found.image_threshold == found.image_scores.max()
    batches: list[ImageBatch] = engine.predict(model, data_path=mvtec_layout / "surface" / "test")
    expected = torch.cat([batch.pred_score.flatten() for batch in batches])
    assert all(torch.equal(batch.pred_label, batch.pred_score > 0.5) for batch in batches)
    assert all(batch.anomaly_map[..., :8, :].abs().max() == 0 for batch in batches)
    assert all(batch.anomaly_map[..., 8:56, 8:56].max() == batch.pred_score.max() for batch in batches)
    assert {bool(label) for batch in batches for label in batch.pred_label} == {True, False}

    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    by_torch = TorchInferencer(engine.export(model, ExportType.TORCH, export_root=folder), "cpu")
    file = engine.export(model, ExportType.ONNX, export_root=folder)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    full_precision = {"INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(openvino.convert_model(file), "CPU", full_precision)
    paths = [path for batch in batches for path in batch.image_path]
    images = np.stack([np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255 for path in paths])
    names = ["pred_score", "pred_label", "anomaly_map", "pred_mask"]
    by_onnx = dict(zip(names, session.run(names, {"input": images}), strict=True))
    by_openvino = network(images)
    clear = (expected - 0.5).abs() > TOLERANCE
    assert clear.any()
    for outputs in (by_onnx, by_openvino):
        scores = torch.from_numpy(np.asarray(outputs["pred_score"])).flatten()
        torch.testing.assert_close(scores, expected, atol=TOLERANCE, rtol=0)
        labels = torch.from_numpy(np.asarray(outputs["pred_label"])).flatten().bool()
        assert torch.equal(labels[clear], (expected > 0.5)[clear])
        assert not np.asarray(outputs["anomaly_map"])[..., :8, :].any()
        assert not np.asarray(outputs["pred_mask"])[..., :8, :].any()
    by_file = torch.tensor([float(by_torch.predict(path).pred_score) for path in paths])
    torch.testing.assert_close(by_file, expected, atol=TOLERANCE, rtol=0)

    broken = np.full_like(images[:1], np.nan)
    assert session.run(["pred_label"], {"input": broken})[0].all(), "what has no score is rejected"
