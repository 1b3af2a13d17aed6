"""Bundles of a real model in every format decide as anomalib's inferencers do."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from anomalib.deploy import ExportType, OpenVINOInferencer, TorchInferencer
from PIL import Image

from anomalib_plus.inspector import BundleInfo, Inspector, UnreadableImageError, write_bundle_info
from anomalib_plus.models import RamFAE
from page_code import blocks, run
from small_ramfae import train_small_ramfae
from tiny_bundle import tiny_model

FORMATS = {"openvino": ExportType.OPENVINO, "onnx": ExportType.ONNX, "torch": ExportType.TORCH}


@pytest.fixture(scope="module")
def exported(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported file of each format."""
    folder = tmp_path_factory.mktemp("export")
    model, engine = train_small_ramfae(mvtec_layout, folder)
    files = {
        name: Path(engine.export(model, kind, export_root=folder))
        for name, kind in FORMATS.items()
        if kind != ExportType.OPENVINO
    }
    with pytest.MonkeyPatch.context() as patch:  # the graph of the ONNX file, which takes most of the time
        patch.setattr(RamFAE, "to_onnx", lambda *_, **__: files["onnx"])
        return files | {"openvino": Path(engine.export(model, ExportType.OPENVINO, export_root=folder))}


@pytest.fixture(scope="module")
def images(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Good and bad images, one of another size."""
    other = tmp_path_factory.mktemp("other") / "other.png"
    Image.open(mvtec_layout / "surface/test/defect/000.png").resize((90, 50)).save(other)
    return [*sorted((mvtec_layout / "surface/test").rglob("*.png")), other]


def make_bundle(exported: Path, format_: str, folder: Path) -> Path:
    shutil.copytree(exported.parent, folder)
    write_bundle_info(folder, BundleInfo("RamFAE", format_, (32, 32), [0.1, 0.2]))
    return folder


def inferencer(format_: str, file: Path) -> Callable[[Path], tuple[float, bool, np.ndarray]]:
    if format_ == "torch":
        inferencer = TorchInferencer(file, device="cpu")
    else:
        inferencer = OpenVINOInferencer(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def predict(image: Path) -> tuple[float, bool, np.ndarray]:
        batch = inferencer.predict(image)
        anomaly_map = batch.anomaly_map.detach() if format_ == "torch" else batch.anomaly_map
        return batch.pred_score.item(), bool(batch.pred_label.item()), np.asarray(anomaly_map).squeeze()

    return predict


@pytest.mark.parametrize("format_", FORMATS)
def test_decisions_are_those_of_anomalib(
    exported: dict[str, Path], images: list[Path], format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(exported[format_], format_, tmp_path / "bundle")
    if format_ == "torch":
        with pytest.raises(ValueError, match="TRUST_REMOTE_CODE=1"):
            Inspector.load(bundle)
        monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    inspector = Inspector.load(bundle)
    predict = inferencer(format_, exported[format_])
    decisions = set()
    with ThreadPoolExecutor(4) as pool:
        predictions = list(pool.map(inspector, images))
    for image, prediction in zip(images, predictions, strict=True):
        score, label, anomaly_map = predict(image)
        assert prediction.score == pytest.approx(score, abs=1e-5)
        assert prediction.decision == ("reject" if label else "accept")
        with Image.open(image) as opened:
            assert prediction.map.shape == opened.size[::-1]
        small = Image.fromarray(prediction.map).resize(anomaly_map.shape[::-1], Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(small) - anomaly_map).mean() < 0.05
        decisions.add(prediction.decision)
    assert decisions == {"accept", "reject"}


def test_a_network_of_fixed_shape_makes_a_bundle(exported: dict[str, Path], images: list[Path], tmp_path: Path) -> None:
    """The network is written by the example of docs/deploy.md."""
    whole = Inspector.load(make_bundle(exported["openvino"], "openvino", tmp_path / "weights" / "openvino"))
    (block,) = (block for block in blocks("deploy.md", "python") if "read_with_fixed_shape" in block)
    run(block, "deploy.md")
    fixed = tmp_path / "fixed"
    fixed.mkdir()
    for suffix in (".xml", ".bin"):
        shutil.copy(f"weights/openvino/fixed{suffix}", fixed / f"model{suffix}")
    write_bundle_info(fixed, BundleInfo("RamFAE", "openvino", (32, 32), [0.1, 0.2]))
    inspector = Inspector.load(fixed)
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    assert inspector(pixels).score == pytest.approx(whole(pixels).score, abs=1e-4)
    with pytest.raises(UnreadableImageError, match=r"has 50x90 pixels .* the model takes 480x640"):
        inspector(images[-1])


def test_a_model_without_a_map_is_named(tmp_path: Path) -> None:
    model = tiny_model()
    del model.graph.output[2]
    onnx.save(model, tmp_path / "model.onnx")
    write_bundle_info(tmp_path, BundleInfo("Tiny", "onnx", (32, 32), [0.1, 0.2]))
    with pytest.raises(ValueError, match="no output anomaly_map: export a model"):
        Inspector.load(tmp_path)
