"""Networks of a fixed shape predict like those of any."""

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine

from anomalib_plus import RamFAE
from anomalib_plus.deployment.fixed_shape import read_with_fixed_shape

IMAGE = np.random.default_rng(0).random((100, 90, 3), np.float32)


@pytest.fixture(scope="module")
def model() -> RamFAE:
    torch.manual_seed(0)
    made = RamFAE(widths=(4, 8, 16, 32), pre_processor=RamFAE.configure_pre_processor((64, 64))).eval()
    made.is_trained = True
    for name in ("image", "pixel"):  # as a validation would
        for value, number in {f"{name}_min": 0.0, f"{name}_max": 4.0, f"_{name}_threshold": 0.5}.items():
            setattr(made.post_processor, value, torch.tensor(number))
    return made


def test_anomalibs_inferencer_takes_the_file(model: RamFAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for OpenVINO's cache
    exported = Engine(logger=False).export(model, ExportType.OPENVINO, export_root=tmp_path)
    network = read_with_fixed_shape(exported, (1, 3, 100, 90))
    openvino.save_model(network, tmp_path / "fixed.xml", compress_to_fp16=False)
    inferencer = OpenVINOInferencer(tmp_path / "fixed.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = inferencer.predict(IMAGE)
    with torch.inference_mode():
        expected = model(torch.from_numpy(IMAGE).permute(2, 0, 1)[None])
    assert 0 < expected.pred_score.item() < 1
    for name, value in expected._asdict().items():
        wrong = np.abs(np.float64(getattr(found, name)).squeeze() - value.double().squeeze().numpy()) > 1e-4
        assert wrong.mean() < (0.001 if name == "pred_mask" else 1e-9), name  # a pixel may lie at the threshold
    with pytest.raises(RuntimeError, match=r"[Ss]hape"):
        inferencer.predict(IMAGE[:64])


def test_a_shape_that_the_export_does_not_take_is_refused(model: RamFAE, tmp_path: Path) -> None:
    exported = Engine(logger=False).export(model, ExportType.OPENVINO, export_root=tmp_path, input_size=(64, 64))
    assert read_with_fixed_shape(exported, (8, 3, 64, 64)).input(0).partial_shape.is_static
    for shape in ((1, 3, 100, 90), (0, 3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(ValueError, match=r"takes images of shape .* pass a shape that fits"):
            read_with_fixed_shape(exported, shape)
