"""The models on the device: training in every precision, agreement with the CPU, resuming, waiting, exports."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import ImageBatch
from anomalib.deploy import ExportType, TorchInferencer
from torch import Tensor, nn

from contract.small_models import SmallModel

from .conftest import ON_CPU, Trained, Trainings

WAITS_OF_ANOMALIES = 8
"""Waits for the device in a training step with synthetic anomalies: for what the host draws and decides of a batch."""


def assert_falling(trained: Trained) -> None:
    """The losses are finite, and those of the first phase fall."""
    losses = [torch.stack(losses).float().cpu() for _, losses in trained.losses.phases]
    assert all(phase.isfinite().all() for phase in losses)
    assert losses[0][-3:].mean() < losses[0][:3].mean()


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Maps and scores on a device, on the host in float32."""
    output = copy.deepcopy(network).to(device).eval()(images.to(device))
    return output.anomaly_map.float().cpu(), output.pred_score.float().cpu().flatten()


def test_float32(trained: Trained) -> None:
    assert_falling(trained)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision(small_model: SmallModel, trainings: Trainings, precision: str) -> None:
    if precision == "16-mixed" and ON_CPU:
        pytest.skip("a CPU trains in bfloat16 only")
    assert_falling(trainings.train(small_model.build(), precision=precision))


def test_maps_are_those_of_the_cpu(trained: Trained, images: Tensor, device: torch.device) -> None:
    """To a thousandth of their range, in float32, in either memory layout."""
    on_cpu = predict(trained.model.model, images, torch.device("cpu"))
    networks = [trained.model.model, copy.deepcopy(trained.model.model).to(memory_format=torch.channels_last)]
    for network in networks:
        for found, expected in zip(predict(network, images, device), on_cpu, strict=True):
            assert (found - expected).abs().max() <= 1e-3 * (on_cpu[0].max() - on_cpu[0].min())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_maps_in_half_precision(trained: Trained, images: Tensor, device: torch.device, dtype: torch.dtype) -> None:
    """Finite, and those of float32 but for a pixel in a hundred.

    To a twentieth of their range; or, if they hardly vary yet, to a hundredth of their values, which have 8 bits.
    """
    expected, _ = predict(trained.model.model, images, device)
    with torch.autocast(device.type, dtype):
        found, _ = predict(trained.model.model, images, device)
    assert found.isfinite().all()
    tolerance = max(0.05 * (expected.max() - expected.min()), 0.01 * expected.max())
    assert (found - expected).abs().quantile(0.99) <= tolerance


def test_resumed_training_is_the_same(
    small_model: SmallModel, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``deterministic=True``, bit for bit."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    arguments: dict[str, Any] = {"max_steps": -1, "max_epochs": 4, "deterministic": True}
    every_epoch = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, auto_insert_metric_name=False)
    try:
        whole = trainings.train(small_model.build(), callbacks=[every_epoch], **arguments)
        resumed = trainings.train(small_model.build(), tmp_path / "1.ckpt", **arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def step_waits(model: Any, images: Tensor) -> list[str]:
    """Train one step on a batch; return where the host waited for the device."""
    optimizer = torch.optim.Adam([value for value in model.model.parameters() if value.requires_grad])

    def step() -> None:
        loss = model.training_step(ImageBatch(image=images), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(2):
        step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{each.filename}:{each.lineno}" for each in caught if "synchronizing CUDA" in str(each.message)]


@pytest.mark.skipif(ON_CPU, reason="a CPU has nothing to wait for")
def test_the_host_hardly_waits_in_a_training_step(
    small_model: SmallModel, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never in the network and its loss; for the synthetic anomalies a few times, however large the batch."""
    model = small_model.build().to(device).train()
    monkeypatch.setattr(type(model), "log", lambda *_, **__: None)
    monkeypatch.setattr(type(model), "log_dict", lambda *_, **__: None)
    small, large = (step_waits(model, torch.rand(size, 3, 64, 64, device=device)) for size in (2, 8))
    assert len(small) <= (0 if model.augmenter is None else WAITS_OF_ANOMALIES), small
    assert len(large) <= len(small), (small, large)


def test_export_of_a_model_trained_on_the_device(trained: Trained, images: Tensor, tmp_path: Path) -> None:
    """The file predicts on the CPU what the model predicts."""
    path = trained.engine.export(copy.deepcopy(trained.model), ExportType.TORCH, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUST_REMOTE_CODE", "1")
        inferencer = TorchInferencer(path, device="cpu")
    with torch.no_grad():
        expected = copy.deepcopy(trained.model).cpu().eval()(images)
        found = inferencer.predict(images[0])
    assert float(found.pred_score) == pytest.approx(float(expected.pred_score[0]), abs=1e-3)


def test_compiled(small_model: SmallModel, trainings: Trainings, images: Tensor, device: torch.device) -> None:
    """A compiled network trains, and predicts as the same network without compilation."""
    model = small_model.build()
    model.model = torch.compile(model.model, backend="aot_eager" if ON_CPU else "inductor")
    trained = trainings.train(model, max_steps=4)
    assert all(torch.stack(losses).isfinite().all() for _, losses in trained.losses.phases)
    compiled = trained.model.to(device).model
    images = images.to(device)
    with torch.no_grad():
        eager = compiled._orig_mod(images).anomaly_map.float()
        found = compiled(images).anomaly_map.float()
    assert (found - eager).abs().max() <= 1e-3 * (eager.max() - eager.min())
