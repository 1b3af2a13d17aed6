"""Whitened residuals: the distance against scipy's, and statistics that always belong to the weights."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from anomalib.data import MVTecAD
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from onnx.numpy_helper import to_array
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from anomalib_plus import AstMFR
from anomalib_plus.models.astmfr.whitening import Moments, Whitening
from at_step import AtStep, interrupt, stop

SIZE = (64, 64)
NEVER = 100
STEPS = 3
"""Per epoch."""


def reference_distances(vectors: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
    """By numpy's covariance and scipy's distance, one vector at a time; (N, C) against (M, C)."""
    covariance = np.cov(good, rowvar=False, bias=True).reshape(good.shape[1], good.shape[1])
    average = np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(0.99 * covariance + 0.01 * average * np.eye(len(covariance)))
    mean = good.mean(axis=0)
    return np.array([mahalanobis(vector, mean, inverse) for vector in vectors]) / np.sqrt(len(covariance))


def as_vectors(maps: Tensor) -> NDArray[np.float64]:
    return maps.movedim(1, -1).flatten(0, -2).double().numpy()


def build(residual: str = "whitened", **arguments: Any) -> AstMFR:
    seed_everything(0, verbose=False)
    options = {"evaluator": False, "visualizer": False, "pre_processor": AstMFR.configure_pre_processor(SIZE)}
    networks = {"teacher": "test_resnet", "student": "test_efficientnet", "pre_trained": False}
    return AstMFR(**{**networks, **options, "residual": residual, **arguments})


@pytest.fixture
def surfaces(mvtec_layout: Path) -> Callable[[], MVTecAD]:
    """Makes datamodules of 6 training images in batches of 2."""
    return lambda: MVTecAD(
        root=mvtec_layout, category="surface", num_workers=0, train_batch_size=2, eval_batch_size=6
    )  # fmt: skip


def engine(**arguments: Any) -> Engine:
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    limits = {"max_epochs": 2, "check_val_every_n_epoch": NEVER}
    return Engine(**{"accelerator": "cpu", "devices": 1, **silent, **limits, **arguments})


def images_of(datamodule: MVTecAD) -> Tensor:
    datamodule.setup()
    return torch.stack([datamodule.train_data[index].image for index in range(6)])


def estimated_from(weights: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """What the pass must have found for these weights."""
    model = build()
    model.load_state_dict(weights)
    model.eval().estimate_residuals(images.split(2))
    return model.model.whitening.state_dict()


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_distance_is_mahalanobis_of_the_regularised_covariance(channels: int) -> None:
    mixing = torch.randn(channels, channels)
    good, others = (torch.einsum("oc,bchw->bohw", mixing, torch.randn(4, channels, 6, 5)) + 3 for _ in range(2))
    moments = Moments(channels)
    for batch in good.split(3):
        moments.add(batch)
    whitening = Whitening(channels)
    whitening.fit(moments)
    expected = reference_distances(as_vectors(others), as_vectors(good))
    np.testing.assert_allclose(as_vectors(whitening(others))[:, 0], expected, rtol=1e-3)
    assert int(whitening.count) == 4 * 30


def test_vectors_that_do_not_vary_have_finite_distances() -> None:
    moments, whitening = Moments(3), Whitening(3)
    moments.add(torch.full((1, 3, 2, 2), 0.5))
    whitening.fit(moments)
    distances = whitening(torch.tensor([0.5, 0.6]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).flatten()
    assert distances[0].item() == pytest.approx(0, abs=0.1)
    assert 1 < distances[1].item() < torch.inf


def test_map_is_the_mean_of_the_levels_distances() -> None:
    """From the networks' features, by numpy and scipy; and d / (1 + d) of the mean."""
    model, images, others = build(sigma=0, pool_size=0).eval(), torch.rand(5, 3, *SIZE), torch.rand(1, 3, *SIZE)
    model.estimate_residuals(images.split(2))

    def residuals(batch: Tensor) -> list[Tensor]:
        teacher = model.model.teacher_features(batch)
        student = model.model.student_features(batch, [features.shape[-2:] for features in teacher])
        return [F.normalize(s, dim=1) - F.normalize(t, dim=1) for s, t in zip(student, teacher, strict=True)]

    with torch.no_grad():
        upsampled = []
        for good, other in zip(residuals(images), residuals(others), strict=True):
            distances = reference_distances(as_vectors(other), as_vectors(good)).reshape(1, 1, *other.shape[-2:])
            upsampled.append(F.interpolate(torch.from_numpy(distances), SIZE, mode="bilinear"))
        mean = torch.stack(upsampled).mean(dim=0)
        actual = model.model(others)
    torch.testing.assert_close(actual.anomaly_map, (mean / (1 + mean)).float(), rtol=1e-3, atol=1e-4)
    assert actual.pred_score.item() == actual.anomaly_map.max()


ENDS: dict[str, Callable[[], dict[str, Any]]] = {
    "epochs": dict,
    "validated each epoch": lambda: {"check_val_every_n_epoch": 1},
    "steps": lambda: {"max_steps": 4, "max_epochs": -1},
    "stopped": lambda: {"callbacks": [AtStep(5, stop)]},
    "stopped after the epoch": lambda: {"callbacks": [EarlyStopping("train_loss", stopping_threshold=1e9)]},
    "interrupted": lambda: {"callbacks": [AtStep(5, interrupt)]},
    "no validation": lambda: {"limit_val_batches": 0},
}


@pytest.mark.parametrize("end", ENDS)
def test_statistics_and_thresholds_are_those_of_the_saved_weights(
    surfaces: Callable[[], MVTecAD], tmp_path: Path, end: str
) -> None:
    model = build()
    try:
        engine(default_root_dir=tmp_path, **ENDS[end]()).fit(model, datamodule=surfaces())
    except SystemExit:
        assert end == "interrupted"
    (file,) = tmp_path.rglob("*.ckpt")
    weights = torch.load(file, weights_only=True)["state_dict"]
    prefix = "model.whitening."
    saved = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    assert int(saved["0.count"]) == 6 * 16 * 16
    torch.testing.assert_close(saved, estimated_from(weights, images_of(surfaces())), rtol=1e-5, atol=1e-6)
    if end != "no validation":
        loaded = build()
        loaded.load_state_dict(weights)
        engine(default_root_dir=tmp_path).validate(loaded, datamodule=surfaces(), verbose=False)
        thresholds = {name: value for name, value in weights.items() if name.startswith("post_processor.")}
        torch.testing.assert_close({name: loaded.state_dict()[name] for name in thresholds}, thresholds)


def test_training_does_not_notice(surfaces: Callable[[], MVTecAD], tmp_path: Path) -> None:
    """And a pass sees no more batches than an epoch does."""
    weights = {}
    for residual in ("paper", "whitened"):
        model = build(residual)
        options = {"check_val_every_n_epoch": 1, "limit_train_batches": 2, "default_root_dir": tmp_path / residual}
        engine(**options).fit(model, datamodule=surfaces())
        weights[residual] = dict(model.model.named_parameters())
    assert int(model.model.whitening[0].count) == 4 * 16 * 16
    torch.testing.assert_close(weights["whitened"], weights["paper"], rtol=0, atol=0)


@pytest.mark.slow  # exports take many seconds
def test_onnx_agrees_and_holds_the_whitening_as_convolutions(tmp_path: Path) -> None:
    model, images = build(post_processor=False).eval(), torch.rand(4, 3, *SIZE)
    model.estimate_residuals([images])
    model.is_trained = True
    file = engine().export(model, ExportType.ONNX, export_root=tmp_path, input_size=SIZE)
    (exported,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
        ["anomaly_map"], {"input": images.numpy()}
    )
    with torch.inference_mode():
        expected = model.model(images).anomaly_map.numpy()
    assert np.abs(exported - expected).max() < 1e-4
    graph = onnx.load(file).graph
    stored = {values.name: values for values in graph.initializer}
    kernels = [to_array(stored[node.input[1]]) for node in graph.node if node.op_type == "Conv" and len(node.input) > 1]
    for level in model.model.whitening:
        weight = level.weight.numpy()
        assert any(kernel.shape == weight.shape and np.allclose(kernel, weight) for kernel in kernels)


def test_a_model_without_statistics_says_so_and_can_be_given_some(
    surfaces: Callable[[], MVTecAD], tmp_path: Path
) -> None:
    model = build()
    trainer = engine(default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match="maps show plain distances.*estimate_residuals"):
        trainer.predict(model, datamodule=surfaces())
    model.estimate_residuals(torch.rand(2, 2, 3, 80, 80))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*plain distances.*")
        engine(default_root_dir=tmp_path).predict(model, datamodule=surfaces())


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one image"):
        build().estimate_residuals([])
    with pytest.raises(ValueError, match="needs residual='whitened'"):
        build("paper").estimate_residuals([torch.rand(1, 3, *SIZE)])
    with pytest.raises(ValueError, match="residual must be one of paper, whitened, got 'mahalanobis'"):
        build("mahalanobis")
