"""Exported models give what the eager model gives."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.deploy import ExportType, TorchInferencer

from .comparison import assert_same_output
from .conftest import Trained
from .small_models import SmallModel, quiet_engine

TOLERANCE = 1e-4


@pytest.fixture(scope="package")
def onnx_session(
    small_model: SmallModel, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> onnxruntime.InferenceSession:
    """The checkpoint, exported by the command for images of any number and size."""
    folder = tmp_path_factory.mktemp("onnx")
    options = ["--export_type=onnx", f"--ckpt_path={trained.checkpoint}", f"--export_root={folder}"]
    AnomalibCLI(["export", *small_model.command_line, *options])
    (exported,) = folder.rglob("*.onnx")
    return onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [(64, 64), (100, 80)], ids=str)
@pytest.mark.parametrize("count", [1, 6])
def test_onnx_agrees_with_the_eager_model(
    trained: Trained,
    onnx_session: onnxruntime.InferenceSession,
    surface_batch: ImageBatch,
    size: tuple[int, int],
    count: int,
) -> None:
    images = F.interpolate(surface_batch.image[:count], size, mode="bilinear")
    names = [output.name for output in onnx_session.get_outputs()]
    arrays = onnx_session.run(names, {"input": images.numpy()})
    with torch.inference_mode():
        expected = trained.model.eval()(images)
    assert ((expected.anomaly_map > 0) & (expected.anomaly_map < 1)).float().mean() > 0.1, "clamped: shows nothing"
    actual = InferenceBatch(**{name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)})
    assert_same_output(actual, expected, TOLERANCE)


def test_onnx_scores_are_in_the_unit_interval_and_repeat(onnx_session: onnxruntime.InferenceSession) -> None:
    images = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)
    first, second = (onnx_session.run(["pred_score", "anomaly_map"], {"input": images}) for _ in range(2))
    for values, again in zip(first, second, strict=True):
        assert np.array_equal(values, again)
        assert values.min() >= 0
        assert values.max() <= 1


def test_torch_inferencer_agrees_with_the_eager_model(
    trained: Trained, surface_batch: ImageBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    path = quiet_engine().export(trained.model, ExportType.TORCH, export_root=tmp_path)
    inferencer = TorchInferencer(path, device="cpu")
    for image_path, image in zip(surface_batch.image_path, surface_batch.image, strict=True):
        with torch.inference_mode():
            expected = trained.model.eval()(image[None])
            assert_same_output(inferencer.predict(image_path), expected, TOLERANCE)
