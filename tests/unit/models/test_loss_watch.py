"""On a GPU the watch looks late; what it says then is tested here with losses that pretend to be elsewhere."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from torch import Tensor, nn
from torch.multiprocessing import ProcessRaisedException

from anomalib_plus import RamFAE
from anomalib_plus.models.components import loss_watch
from anomalib_plus.models.components.loss_terms import LossTerms
from anomalib_plus.models.components.loss_watch import LossWatch
from anomalib_plus.models.ramfae.loss import RamFAELoss


class Elsewhere(Tensor):
    """A CPU tensor that says it is on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def terms(value: float, elsewhere: bool = True) -> LossTerms:
    total = torch.tensor(value)
    return LossTerms(total.as_subclass(Elsewhere) if elsewhere else total, {"l2": total, "ssim": torch.tensor(0.5)})


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many values each look took from the device."""
    counts: list[int] = []
    original = torch.stack

    def counted(tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
        counts.append(len(tensors))
        return original(tensors, *args, **kwargs)

    monkeypatch.setattr(loss_watch.torch, "stack", counted)
    return counts


def test_elsewhere_one_look_for_many_steps(looks: list[int]) -> None:
    watch = LossWatch("Model", nn.Linear(1, 1), steps_between_looks=4)
    for step in range(10):
        watch.begin(0, step, [f"{step}.png"])
        watch.record(terms(1.0))
    assert looks == [4, 4]
    watch.check()
    watch.check()
    assert looks == [4, 4, 2]


def test_on_a_cpu_a_look_at_every_step(looks: list[int]) -> None:
    watch = LossWatch("Model", nn.Linear(1, 1))
    for _ in range(3):
        watch.record(terms(1.0, elsewhere=False))
    assert looks == [1, 1, 1]


def test_the_first_bad_step_is_named_however_late_the_look() -> None:
    watch = LossWatch("Model", nn.Linear(1, 1))
    for step, value in enumerate([1.0, torch.inf, torch.nan, torch.nan]):
        watch.begin(2, step, [f"{step}.png"])
        watch.record(terms(value))
    message = r"l2=inf, total=inf \(ssim=0\.5\), in epoch 2, batch 1 \(images 1\.png\)"
    with pytest.raises(FloatingPointError, match=message):
        watch.check()


def test_the_step_before_is_remembered_from_the_look_before() -> None:
    network = nn.Linear(1, 1)
    watch = LossWatch("Model", network)
    watch.begin(0, 7, ["7.png"])
    watch.record(terms(1.0, elsewhere=False))
    nn.init.constant_(network.weight, torch.nan)
    watch.begin(0, 8, None)
    message = r"batch 8 \(images without files\).*before was .*batch 7 \(images 7\.png"
    with pytest.raises(FloatingPointError, match=message):
        watch.record(terms(torch.nan, elsewhere=False))


def test_weights_and_buffers_are_looked_at_together(looks: list[int]) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    watch = LossWatch("Model", network)
    watch.check_weights()
    network[1].running_var.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match=r"1 weights are NaN or infinite, 1\.running_var"):
        watch.check_weights()
    network[1].running_var = network[1].running_var.new_empty(0)  # such as RbAE's reference before it is chosen
    watch.check_weights()


class OneLossIsNone(RamFAELoss):
    """NaN in the second of two processes only."""

    def forward(self, clean: Tensor, reconstruction: Tensor) -> LossTerms:
        loss = super().forward(clean, reconstruction)
        return LossTerms(loss.total * torch.nan, loss.terms) if torch.distributed.get_rank() == 1 else loss


def test_several_processes_stop_together(mvtec_layout: Path, tmp_path: Path) -> None:
    model = RamFAE(widths=(4, 8, 8, 8), pre_processor=False, evaluator=False, visualizer=False)
    model.loss = OneLossIsNone()
    engine = Engine(max_epochs=1, devices=2, accelerator="cpu", strategy="ddp_fork", enable_progress_bar=False)
    with pytest.raises(ProcessRaisedException, match=r"RamFAE: the loss is no number: total=nan .*\(images "):
        engine.fit(model, datamodule=MVTecAD(mvtec_layout, "surface", train_batch_size=2, num_workers=0))


def test_an_exported_model_does_not_tell_the_names_of_its_training_images() -> None:
    model = RamFAE(widths=(4, 8, 8, 8), evaluator=False, visualizer=False)
    model.loss_watch.begin(0, 0, ["folder of a customer/000.png"])
    model.loss_watch.record(terms(1.0, elsewhere=False))
    exported = BytesIO()
    torch.save({"model": model}, exported)
    assert b"folder of a customer" not in exported.getvalue()
