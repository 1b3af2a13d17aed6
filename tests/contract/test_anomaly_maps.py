"""The anomaly map of a trained model can be exchanged, and stays exchanged wherever the model goes."""

import copy
import inspect
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.deploy import ExportType
from anomalib.models import AnomalibModule

from .conftest import Trained
from .small_models import IMAGE_SIZE, SmallModel, quiet_engine
from .test_misfit import checkpoint_of


@pytest.fixture(scope="package")
def maps(small_model: SmallModel) -> tuple[str, ...]:
    """What the argument ``anomaly_map`` takes; the paper's map is the default."""
    argument = inspect.signature(small_model.cls).parameters["anomaly_map"]
    names = get_args(argument.annotation)
    assert len(names) > 1
    assert argument.default == names[0]
    return names


@pytest.fixture
def model(trained: Trained) -> AnomalibModule:
    return copy.deepcopy(trained.model)


def test_every_map_is_another_one_in_the_unit_interval(
    model: AnomalibModule, maps: tuple[str, ...], surface_batch: ImageBatch
) -> None:
    seen = []
    with torch.inference_mode():
        for name in maps:
            model.anomaly_map = name
            assert model.hparams["anomaly_map"] == model.anomaly_map == name
            output = model.model(surface_batch.image)
            for values in (output.pred_score, output.anomaly_map):
                assert values.isfinite().all()
                assert 0 <= values.min() < values.max() <= 1
            seen.append(output.anomaly_map)
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(seen) for b in seen[:i])


def test_a_checkpoint_keeps_the_map(
    small_model: SmallModel, model: AnomalibModule, maps: tuple[str, ...], surface_batch: ImageBatch, tmp_path: Path
) -> None:
    model.anomaly_map = maps[-1]
    torch.save(checkpoint_of(model), tmp_path / "model.ckpt")
    loaded = small_model.cls.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu").eval()
    asked = small_model.cls.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu", anomaly_map=maps[0])
    assert (loaded.anomaly_map, asked.anomaly_map) == (maps[-1], maps[0])
    with torch.inference_mode():
        assert torch.equal(
            loaded.model(surface_batch.image).anomaly_map, model.eval().model(surface_batch.image).anomaly_map
        )


def test_a_map_that_is_not_there_is_refused_and_changes_nothing(model: AnomalibModule, maps: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"anomaly_map must be one of {maps[0]}, .*got 'nothing'"):
        model.anomaly_map = "nothing"
    assert model.anomaly_map == model.hparams["anomaly_map"] == maps[0]


@pytest.mark.slow  # an export takes many seconds; those of the default maps are in test_export.py
def test_another_map_is_exported(
    model: AnomalibModule, maps: tuple[str, ...], surface_batch: ImageBatch, tmp_path: Path
) -> None:
    model.anomaly_map, model.post_processor = maps[-1], None
    file = quiet_engine().export(model, ExportType.ONNX, export_root=tmp_path, input_size=IMAGE_SIZE)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (exported,) = session.run(["anomaly_map"], {"input": surface_batch.image.numpy()})
    with torch.inference_mode():
        expected = model.eval().model(surface_batch.image).anomaly_map
    assert np.abs(exported - expected.numpy()).max() < 1e-4
