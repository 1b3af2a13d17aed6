"""The command's export to OpenVINO, and anomalib's two inferencers side by side. Slow: most of it is the export."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import ImageBatch
from anomalib.deploy import ExportType, OpenVINOInferencer, TorchInferencer

from .conftest import Trained
from .small_models import IMAGE_SIZE, SmallModel, quiet_engine

openvino = pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
pytestmark = pytest.mark.slow

TOLERANCE = 1e-3


@pytest.fixture(scope="package")
def exported(small_model: SmallModel, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    options = ["--export_type=openvino", f"--ckpt_path={trained.checkpoint}", f"--export_root={folder}"]
    AnomalibCLI(["export", *small_model.command_line, *options])
    (model,) = folder.rglob("weights/openvino/model.xml")
    return model


def test_the_exported_model_takes_batches_and_gives_all_outputs(exported: Path) -> None:
    outputs = openvino.Core().compile_model(exported, "CPU")(torch.rand(2, 3, *IMAGE_SIZE).numpy())
    assert {output.get_any_name() for output in outputs} == {"pred_score", "pred_label", "anomaly_map", "pred_mask"}
    assert outputs["anomaly_map"].shape == (2, 1, *IMAGE_SIZE)


def test_inferencers_score_alike(
    exported: Path, trained: Trained, surface_batch: ImageBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    by_torch = TorchInferencer(quiet_engine().export(trained.model, ExportType.TORCH, export_root=tmp_path), "cpu")
    by_openvino = OpenVINOInferencer(exported, "CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
    for path in surface_batch.image_path:
        with torch.inference_mode():
            expected = by_torch.predict(path)
        actual = by_openvino.predict(path)
        for score in (expected.pred_score, actual.pred_score):
            assert 0 <= np.asarray(score).item() <= 1
        for name in ("pred_score", "anomaly_map"):
            reference = getattr(expected, name).numpy()
            values = np.asarray(getattr(actual, name)).reshape(reference.shape)
            np.testing.assert_allclose(values, reference, atol=TOLERANCE, rtol=0, err_msg=name)
