"""The schedule follows whatever limits the training."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from anomalib_plus import RamFAE
from anomalib_plus.models.components.training_progress import training_progress


def trainer(**limits) -> SimpleNamespace:
    return SimpleNamespace(**{"max_epochs": -1, "max_steps": -1, "global_step": 0, "callbacks": [], **limits})


def learning_rates(epochs: int) -> list[float]:
    """RamFAE's learning rate at the start of each epoch, and after the last."""
    model = RamFAE(widths=(2, 2), evaluator=False, visualizer=False)
    model._trainer = trainer(max_epochs=epochs)
    optimizers = model.configure_optimizers()
    rates = []
    for _ in range(epochs + 1):
        rates.append(optimizers["optimizer"].param_groups[0]["lr"])
        optimizers["optimizer"].step()
        optimizers["lr_scheduler"]["scheduler"].step()
    return rates


def test_paper_schedule() -> None:
    rates = learning_rates(250)
    assert rates[0] == 1e-4
    assert rates[125] == pytest.approx(5.05e-5, rel=1e-6)
    assert rates[249] == pytest.approx(1.0039e-6, rel=1e-4)
    assert rates[250] == pytest.approx(1e-6, rel=1e-9)


def test_epoch_limit_gives_pytorchs_cosine_annealing() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=1e-6)
    expected = []
    for _ in range(21):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert learning_rates(20) == pytest.approx(expected, rel=1e-9)


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


def test_wrong_learning_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="min_learning_rate <= learning_rate"):
        RamFAE(widths=(2, 2), learning_rate=1e-6, min_learning_rate=1e-4)
