"""Backends give the same predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.deploy import ExportType
from anomalib.engine import Engine

from anomalib_plus import RamFAE
from anomalib_plus.benchmark.baselines import DraemVariant
from anomalib_plus.benchmark.exports.backends import compiled_backend, eager_backend, engine_backend, open_backends
from anomalib_plus.benchmark.exports.formats import Exported

IMAGES = np.random.default_rng(0).random((2, 3, 100, 90), np.float32)


@pytest.fixture
def ours() -> RamFAE:
    pre_processor = RamFAE.configure_pre_processor((64, 64))
    return RamFAE(widths=(4, 8, 16, 32), pre_processor=pre_processor).eval()


def test_the_compiled_model_sees_what_the_eager_one_sees(ours: RamFAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resizing must be the same as in the eager model; ``torch.compile`` is replaced by the identity."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    theirs = DraemVariant(widths=(4, 2), pre_processor=DraemVariant.configure_pre_processor((64, 64)))
    for model in (ours, theirs.eval()):
        expected, found = eager_backend(model)(IMAGES), compiled_backend(model)(IMAGES)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert np.array_equal(found[name], value), name
    assert compiled == [ours.model, theirs.model]


def test_our_models_predict_alike_in_the_engine(ours: RamFAE) -> None:
    expected, found = eager_backend(ours)(IMAGES), engine_backend(ours)(IMAGES)
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name


def test_networks_of_fixed_shape_follow_the_images(ours: RamFAE, tmp_path: Path) -> None:
    ours.is_trained = True
    path = Engine(logger=False).export(ours, ExportType.OPENVINO, export_root=tmp_path)
    backends, errors = open_backends(ours, {"OpenVINO FP32": Exported(path, 0, 0)}, threads=1)
    assert errors == {}
    fixed = [name for name in backends if name.endswith("fixed shape")]
    assert fixed == ["OpenVINO FP32, fixed shape", "OpenVINO, its own precision, fixed shape"]
    for images in (IMAGES, IMAGES[:1], IMAGES[..., :64], IMAGES):
        expected, found = eager_backend(ours)(images), backends[fixed[0]](images)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert np.allclose(found[name], value, atol=1e-4), name
