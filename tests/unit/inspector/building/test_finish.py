"""The end of a build: training, calibration, export and the check of the export, on a tiny model."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.benchmark.plan import Budget, ModelEntry
from anomalib_plus.inspector import BundleInfo, Inspector
from anomalib_plus.inspector.building.datamodule import SplitData
from anomalib_plus.inspector.building.finish import ExportDiffersError, check_decisions, finish, score_splits
from anomalib_plus.inspector.building.selection_images import entry
from anomalib_plus.post_processing.conformal_math import conformal_threshold
from part_images import save_parts

TINY = ModelEntry(
    "anomalib.models.Padim",
    {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "pre_trained": False, "n_features": 20},
    budget=Budget(max_epochs=1),
)


TILED = ModelEntry(
    "anomalib_plus.tiling.Tiled",
    {"model": {"class_path": TINY.class_path, "init_args": TINY.init_args}, "tile": [32, 32]},
    budget=Budget(max_epochs=1),
)


@pytest.fixture
def task(tmp_path):
    paths = save_parts(tmp_path / "good", 20, size=96)
    images = [entry(path, str(path), part=f"part {number // 4}") for number, path in enumerate(paths)]
    splits = {"training": images[:8], "calibration": images[8:14], "originals": images[14:], "selection": images[14:]}
    (tmp_path / "splits.json").write_text(json.dumps({"digest": "d", **splits}))
    return {
        "entry": asdict(TINY),
        "data": {"root": str(tmp_path), "digest": "d"},
        "budget": asdict(TINY.budget),
        "image_size": [32, 32],
        "false_alarms": 0.4,
        "roi": None,
        "format": "openvino",
        "seed": 0,
        "threads": 1,
        "info": {"name": "Padim", "format": "openvino", "image_size": [32, 32], "false_alarm_rate": 0.4},
    }


@pytest.fixture
def validated_on(monkeypatch):
    """Names of the images that a model can read from its datamodule's validation loader, as EfficientAd does."""
    names, val_dataloader = set(), SplitData.val_dataloader

    def noted(datamodule):
        loader = val_dataloader(datamodule)
        names.update(Path(path).name for path in loader.dataset.samples.image_path)
        return loader

    monkeypatch.setattr(SplitData, "val_dataloader", noted)
    return names


def slow(form, entry_of_task, has_roi):
    return pytest.param(form, entry_of_task, has_roi, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("form", "entry_of_task", "has_roi"),
    [
        ("openvino", TINY, False),
        slow("openvino", TILED, False),
        slow("openvino", TINY, True),
        slow("onnx", TINY, False),
        slow("torch", TINY, False),
    ],
    ids=["whole", "tiles", "roi", "onnx", "torch"],
)
def test_the_bundle_has_the_scores_of_the_export_and_anomalib_models_resize_like_the_engine(
    task, tmp_path, form, entry_of_task, has_roi, validated_on, monkeypatch
):
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    task["entry"] = asdict(entry_of_task)
    task["format"] = task["info"]["format"] = form
    if has_roi:
        Image.fromarray(np.pad(np.full((96, 48), 255, np.uint8), ((0, 0), (48, 0)))).save(tmp_path / "right.png")
        task["roi"], task["info"]["roi"] = str(tmp_path / "right.png"), "roi.png"
    record = finish(task, tmp_path)
    inspector = Inspector.load(tmp_path / "bundle")
    info = inspector.info
    assert record["error"] is None
    assert record["difference"] < 1e-3, "exports of anomalib's models resize without antialiasing"
    scores, parts = record["scores"]["calibration"], [0, 0, 0, 0, 1, 1]
    files = [tmp_path / "good" / f"part_{number:03d}.png" for number in range(8, 14)]
    light = [round(float(np.asarray(Image.open(file)).mean()), 2) for file in files]
    kept = (info.calibration_scores, info.calibration_parts, info.calibration_brightness)
    assert list(zip(*kept, strict=True)) == sorted(zip(scores, parts, light, strict=True))
    assert info.supported_rate == 1 / 3
    assert info.threshold == conformal_threshold(scores, 0.4, parts)
    assert conformal_threshold(scores, 0.4) < info.threshold, "as if each image showed another part"
    assert info.threshold == pytest.approx(0.5, abs=1e-3), "the engine's threshold"
    assert validated_on == {f"part_{number:03d}.png" for number in range(14, 20)}, "calibration images reach the model"
    image = save_parts(tmp_path / "good", 1, size=96)[0]
    again = [inspector(tmp_path / "good" / f"part_{number:03d}.png").score for number in range(8, 14)]
    np.testing.assert_allclose(again, record["scores"]["calibration"], atol=1e-6)
    anomaly_map = inspector(image).map
    assert anomaly_map.shape == (96, 96)
    assert (anomaly_map[:, :40].max() < anomaly_map[:, 56:].min()) == has_roi
    assert (tmp_path / "bundle" / "model.ckpt").stat().st_size > 0
    assert len(list((tmp_path / "maps").iterdir())) == 18


def test_an_export_that_decides_otherwise_is_refused():
    assert check_decisions([0.1, 0.5, 0.2], [0.1, 0.50001, 0.2]) == pytest.approx(1e-5)
    assert check_decisions([0.1, 0.5001], [0.1, 0.4999]) == pytest.approx(2e-4)
    with pytest.raises(ExportDiffersError, match=r"on 1 of 2 calibration images; their scores differ by up to 0\.2"):
        check_decisions([0.1, 0.4], [0.1, 0.6])
    with pytest.raises(ExportDiffersError):
        check_decisions([0.1, 0.4], [0.1, float("nan")])


@pytest.mark.parametrize(
    ("bad", "score", "pixel"),
    [(1, np.nan, 0.2), (4, np.nan, 0.2), (4, np.inf, 0.2), (5, 0.2, np.nan)],
    ids=["calibration", "selection", "infinite", "map"],
)
def test_an_export_that_gives_nan_is_refused_and_the_image_named(tmp_path, bad, score, pixel):
    images = [entry(path, str(path)) for path in save_parts(tmp_path / "good", 6, size=32)]
    splits = {"calibration": images[:2], "originals": images[2:4], "selection": images[4:]}
    given = [{"pred_score": np.float32([0.2]), "anomaly_map": np.full((1, 1, 8, 8), 0.2)} for _ in images]
    outputs = iter(given)
    inspector = Inspector(BundleInfo("x", "onnx", (8, 8), [0.0]), lambda _: next(outputs))
    scores, milliseconds = score_splits(inspector, splits, tmp_path / "maps")
    assert scores == {name: pytest.approx([0.2, 0.2]) for name in splits}
    assert milliseconds > 0
    given[bad] = {"pred_score": np.float32([score]), "anomaly_map": np.full((1, 1, 8, 8), pixel)}
    outputs = iter(given)
    with pytest.raises(FloatingPointError, match=rf"part_00{bad}\.png"):
        score_splits(inspector, splits, tmp_path / "maps")
