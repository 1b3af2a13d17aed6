"""Tiles, a region of interest and a threshold from good images in one model, from its training to every export."""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.deploy import ExportType, TorchInferencer
from anomalib.engine import Engine
from PIL import Image
from torch import Tensor

from anomalib_plus import ConformalPostProcessor, SyntheticValidation, Tiled

from .comparison import assert_same_output
from .conftest import Surfaces
from .small_models import IMAGE_SIZE, quiet_engine
from .test_tiled import INNER, build

TOLERANCE = 1e-4
FIELDS = ("pred_score", "pred_label", "anomaly_map", "pred_mask")
OUTSIDE = np.s_[..., IMAGE_SIZE[1] // 2 :]


class Trained(NamedTuple):
    """A model trained on good images alone, three of which gave the threshold, and what it predicts."""

    model: Tiled
    engine: Engine
    paths: list[str]
    predicted: InferenceBatch


def held_out(surfaces: Surfaces, nuisance: str | None = None) -> SyntheticValidation:
    """Seed 4: scores that lie apart, because the scale of scores close together magnifies rounding."""
    return SyntheticValidation(surfaces(), nuisance=nuisance, holdout=0.5, seed=4)


@pytest.fixture(scope="module", params=INNER)
def trained(request: pytest.FixtureRequest, surfaces: Surfaces, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Loaded from the checkpoint; the mask file is gone. Read-only."""
    folder = tmp_path_factory.mktemp("all_three")
    mask = np.zeros(IMAGE_SIZE, np.uint8)
    mask[:, : IMAGE_SIZE[1] // 2] = 255
    Image.fromarray(mask).save(folder / "left.png")
    torch.manual_seed(0)
    model = build(request.param, post_processor=ConformalPostProcessor(0.25, roi=folder / "left.png"))
    engine = quiet_engine(max_epochs=2, default_root_dir=folder)
    engine.fit(model, datamodule=held_out(surfaces))
    (folder / "left.png").unlink()
    loaded = Tiled.load_from_checkpoint(engine.best_model_path).eval()
    data = surfaces()
    data.setup()
    batches = engine.predict(loaded, dataloaders=data.test_dataloader())
    predicted = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in FIELDS}
    return Trained(
        loaded, engine, [path for batch in batches for path in batch.image_path], InferenceBatch(**predicted)
    )


def assert_agrees(outputs: dict[str, Tensor], trained: Trained) -> None:
    found = InferenceBatch(**outputs)
    expected, post_processor = trained.predicted, trained.model.post_processor
    assert_same_output(found, expected, TOLERANCE)
    assert not np.asarray(found.anomaly_map)[OUTSIDE].any()
    assert not np.asarray(found.pred_mask)[OUTSIDE].any()
    scores = expected.pred_score.flatten()
    clear = ((scores[:, None] - post_processor.calibration_scores).abs() > TOLERANCE).all(1)
    assert len(set(post_processor.p_value(scores[clear]).tolist())) > 1
    p_values = post_processor.p_value(found.pred_score.flatten())
    assert torch.equal(p_values[clear], post_processor.p_value(scores)[clear])


def test_every_export_decides_as_the_engine(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On images of the camera's size, alone and in a batch."""
    model, engine, paths, expected = trained
    assert set(expected.pred_label.tolist()) == {True, False}
    assert (expected.anomaly_map > 0).float().mean() > 0.4
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    by_torch = TorchInferencer(engine.export(model, ExportType.TORCH, export_root=tmp_path), "cpu")
    with torch.inference_mode():
        predictions = [by_torch.predict(path) for path in paths]
    assert_agrees({name: torch.stack([getattr(each, name)[0] for each in predictions]) for name in FIELDS}, trained)

    options = {"export_root": tmp_path, "input_size": IMAGE_SIZE}
    file = engine.export(model, ExportType.ONNX, **options)
    monkeypatch.setattr(Tiled, "to_onnx", lambda *_, **__: file)  # the same graph, which takes most of the time
    network = engine.export(model, ExportType.OPENVINO, **options)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    by_openvino = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = np.stack([np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255 for path in paths])
    for batches in (images[:, None], images[None]):
        for run in (lambda batch: session.run(FIELDS, {"input": batch}), lambda batch: by_openvino(batch).to_tuple()):
            arrays = [np.concatenate(parts) for parts in zip(*map(run, batches), strict=True)]
            assert_agrees(dict(zip(FIELDS, map(torch.from_numpy, arrays), strict=True)), trained)


def test_held_out_images_calibrate_as_they_are(
    trained: Trained, surfaces: Surfaces, caplog: pytest.LogCaptureFixture
) -> None:
    """Defective copies have no part in it; images that are varied are warned of."""
    model, data = copy.deepcopy(trained.model), held_out(surfaces)
    data.setup()
    good = data.val_data.samples.image_path[data.val_data.samples.kind == "good"]
    images = [np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255 for path in good]
    with torch.inference_mode():
        inside = model.model(torch.from_numpy(np.stack(images))).anomaly_map[..., : IMAGE_SIZE[1] // 2]
    scores = model.post_processor.image_scores.clone()
    torch.testing.assert_close(scores, inside.flatten(1).amax(1).sort().values)

    quiet_engine().validate(model, datamodule=held_out(surfaces, "default"), verbose=False)
    assert model.post_processor.n == 3
    assert not torch.allclose(model.post_processor.image_scores, scores)
    assert "false-alarm rate is that of varied ones" in caplog.text
    caplog.clear()
    quiet_engine().validate(model, datamodule=held_out(surfaces), verbose=False)
    torch.testing.assert_close(model.post_processor.image_scores, scores)
    assert "varied" not in caplog.text
