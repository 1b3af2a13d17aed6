"""On a GPU losses are checked late; the messages are tested here with losses that pretend to be on one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from torch import Tensor, nn
from torch.multiprocessing import ProcessRaisedException

from anomalib_plus import RamFAE
from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.models.ramfae.loss import RamFAELoss
from anomalib_plus.training import finite_loss
from anomalib_plus.training.finite_loss import FiniteLoss, check_weights


class Elsewhere(Tensor):
    """A CPU tensor that says it is on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def terms(value: float, elsewhere: bool = True) -> LossTerms:
    total = torch.tensor(value)
    return LossTerms(total.as_subclass(Elsewhere) if elsewhere else total, {"l2": total, "ssim": torch.tensor(0.5)})


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many values each check took from the device."""
    counts: list[int] = []
    original = torch.stack

    def counted(tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
        counts.append(len(tensors))
        return original(tensors, *args, **kwargs)

    monkeypatch.setattr(finite_loss.torch, "stack", counted)
    return counts


class Model(nn.Module):
    """Stands for a module that has logged a loss."""

    loss_terms: LossTerms

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)


def step(callback: FiniteLoss, model: Model, loss: LossTerms, place: tuple[int, int] = (0, 0), *files: str) -> None:
    """Do what the trainer does around a loss."""
    epoch, batch_idx = place
    batch = SimpleNamespace(image_path=list(files) or None)
    callback.on_train_batch_start(SimpleNamespace(current_epoch=epoch), model, batch, batch_idx)
    model.loss_terms = loss
    callback.on_before_backward(None, model, loss.total)


def test_on_a_gpu_one_check_for_many_steps(checks: list[int]) -> None:
    callback, model = FiniteLoss(steps_between_checks=4), Model()
    for index in range(10):
        step(callback, model, terms(1.0), (0, index), f"{index}.png")
    assert checks == [4, 4]
    callback.check(model)
    callback.check(model)
    assert checks == [4, 4, 2]


def test_on_a_cpu_every_step_is_checked(checks: list[int]) -> None:
    callback, model = FiniteLoss(), Model()
    for _ in range(3):
        step(callback, model, terms(1.0, elsewhere=False))
    assert checks == [1, 1, 1]


def test_the_first_bad_step_is_named_however_late_the_check() -> None:
    callback, model = FiniteLoss(), Model()
    for index, value in enumerate([1.0, torch.inf, torch.nan, torch.nan]):
        step(callback, model, terms(value), (2, index), f"{index}.png")
    message = r"l2=inf, total=inf \(ssim=0\.5\), in epoch 2, batch 1 \(images 1\.png\)"
    with pytest.raises(FloatingPointError, match=message):
        callback.check(model)


def test_the_step_before_is_remembered_from_the_check_before() -> None:
    callback, model = FiniteLoss(), Model()
    step(callback, model, terms(1.0, elsewhere=False), (0, 7), "7.png")
    nn.init.constant_(model.network.weight, torch.nan)
    message = r"batch 8 \(images without files\).*before was .*batch 7 \(images 7\.png"
    with pytest.raises(FloatingPointError, match=message):
        step(callback, model, terms(torch.nan, elsewhere=False), (0, 8))


def test_weights_and_buffers_are_checked_together() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    check_weights(network, "Model")
    network[1].running_var.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match=r"Model: 1 weight is NaN or infinite, for example 1\.running_var"):
        check_weights(network, "Model")
    network[1].running_var = network[1].running_var.new_empty(0)  # such as RbAE's reference before it is chosen
    check_weights(network, "Model")


class OneLossIsNone(RamFAELoss):
    """NaN in the second of two processes only."""

    def forward(self, reconstruction: Tensor, target: Tensor) -> LossTerms:
        loss = super().forward(reconstruction, target)
        return LossTerms(loss.total * torch.nan, loss.terms) if torch.distributed.get_rank() == 1 else loss


def test_several_processes_stop_together(mvtec_layout: Path, tmp_path: Path) -> None:
    model = RamFAE(widths=(4, 8, 8, 8), pre_processor=False, evaluator=False, visualizer=False)
    model.loss = OneLossIsNone()
    engine = Engine(max_epochs=1, devices=2, accelerator="cpu", strategy="ddp_fork", enable_progress_bar=False)
    with pytest.raises(ProcessRaisedException, match=r"RamFAE: the loss is not finite: total=nan .*\(images "):
        engine.fit(model, datamodule=MVTecAD(mvtec_layout, "surface", train_batch_size=2, num_workers=0))
