"""The schedule follows whatever limits the training."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.models import AnomalibModule
from lightning.pytorch.callbacks import Timer

from anomalib_plus import TSDN, AstMFR, RamFAE, RbAE
from anomalib_plus.training.schedules import training_progress


def trainer(**limits) -> SimpleNamespace:
    return SimpleNamespace(**{"max_epochs": -1, "max_steps": -1, "global_step": 0, "callbacks": [], **limits})


RATES = {"learning_rate": 1e-4, "min_learning_rate": 1e-6, "evaluator": False, "visualizer": False}


def ramfae(**arguments: Any) -> RamFAE:
    return RamFAE(widths=(2, 2), **RATES | arguments)


def astmfr(**arguments: Any) -> AstMFR:
    return AstMFR("test_resnet", "test_efficientnet", pre_trained=False, **RATES | arguments)


def tsdn(**arguments: Any) -> TSDN:
    small = {"bottleneck_width": 8, "decoder_widths": (4, 4, 4, 4, 4), "fne_hidden_widths": (4,), "fne_size": 2}
    return TSDN("test_efficientnet", pre_trained=False, **small | RATES | arguments)


def rbae(**arguments: Any) -> RbAE:
    return RbAE(widths=(2, 2, 2, 2, 2), fusion_width=2, fdm_width=2, perceptual=False, **RATES | arguments)


SCHEDULED = [ramfae, astmfr, tsdn, rbae]


def learning_rates(epochs: int, build: Callable[[], AnomalibModule]) -> list[float]:
    """A model's learning rate at the start of each epoch, and after the last."""
    model = build()
    model._trainer = trainer(max_epochs=epochs)
    optimizers = model.configure_optimizers()
    rates = []
    for _ in range(epochs + 1):
        rates.append(optimizers["optimizer"].param_groups[0]["lr"])
        optimizers["optimizer"].step()
        optimizers["lr_scheduler"]["scheduler"].step()
    return rates


def test_paper_schedule() -> None:
    rates = learning_rates(250, lambda: RamFAE(widths=(2, 2), evaluator=False, visualizer=False))
    assert rates[0] == 1e-4
    assert rates[125] == pytest.approx(5.05e-5, rel=1e-6)
    assert rates[249] == pytest.approx(1.0039e-6, rel=1e-4)
    assert rates[250] == pytest.approx(1e-6, rel=1e-9)


@pytest.mark.parametrize("build", SCHEDULED)
def test_epoch_limit_gives_pytorchs_cosine_annealing(build: Callable[[], AnomalibModule]) -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=1e-6)
    expected = []
    for _ in range(21):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert learning_rates(20, build) == pytest.approx(expected, rel=1e-9)


def test_step_limit() -> None:
    assert training_progress(trainer(max_steps=200, global_step=50), epoch=7) == 0.25


def test_tightest_limit_counts() -> None:
    assert training_progress(trainer(max_epochs=10, max_steps=100, global_step=50), epoch=2) == 0.5
    assert training_progress(trainer(max_epochs=10, max_steps=1000, global_step=50), epoch=2) == 0.2


def test_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(duration=timedelta(seconds=100))
    assert training_progress(trainer(callbacks=[timer]), epoch=3) == 0.0
    monkeypatch.setattr(timer, "time_elapsed", lambda *_: 40.0)
    assert training_progress(trainer(callbacks=[timer]), epoch=3) == pytest.approx(0.4)
    monkeypatch.setattr(timer, "time_elapsed", lambda *_: 140.0)
    assert training_progress(trainer(callbacks=[timer]), epoch=3) == 1.0


def test_no_limit_keeps_the_initial_rate() -> None:
    assert training_progress(trainer(), epoch=1000) == 0.0


@pytest.mark.parametrize("build", SCHEDULED)
def test_wrong_learning_rates_are_refused(build: Callable[..., AnomalibModule]) -> None:
    with pytest.raises(ValueError, match="min_learning_rate <= learning_rate"):
        build(learning_rate=1e-6, min_learning_rate=1e-4)


@pytest.mark.parametrize("build", SCHEDULED)
def test_a_cosine_is_explained_with_early_stopping(build: Callable[..., AnomalibModule]) -> None:
    assert "cosine" in build().early_stopping_effect


@pytest.mark.parametrize("build", [astmfr, tsdn, rbae])
def test_the_papers_constant_rate_is_the_default(build: Callable[..., AnomalibModule]) -> None:
    model = build(min_learning_rate=None)
    model._trainer = trainer(max_epochs=10)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 1e-4
    assert "cosine" not in model.early_stopping_effect
