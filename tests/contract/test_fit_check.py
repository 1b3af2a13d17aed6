"""A fit that would train nothing, or stop early, says so at its start."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import AnomalibModule
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from .conftest import Surfaces, Trained
from .small_models import SmallModel, each_once, quiet_engine

BARE = {"evaluator": False, "post_processor": False}


def fit(engine: Engine, model: AnomalibModule, surfaces: Surfaces) -> None:
    engine.fit(model, datamodule=surfaces())


LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"max_epochs": 1}, "1 epoch of max_epochs=1"),
    "steps": ({"max_steps": 2, "max_epochs": -1}, "2 steps of max_steps=2"),
    "stopped early": (
        {"max_epochs": 9, "callbacks": [EarlyStopping("train_loss", stopping_threshold=1e9)]}, "another model"
    ),
}  # fmt: skip


@each_once(LIMITS, every=["epochs"])
def test_an_engine_does_not_train_a_second_model(small_model: SmallModel, surfaces: Surfaces, case: str) -> None:
    limits, said = LIMITS[case]
    engine = quiet_engine(limit_val_batches=0, **copy.deepcopy(limits))
    fit(engine, small_model.build(**BARE), surfaces)
    second = small_model.build(**BARE)
    before = copy.deepcopy(second.state_dict())
    with pytest.raises(RuntimeError, match=f"{said}.* new Engine"):
        fit(engine, second, surfaces)
    torch.testing.assert_close(second.state_dict(), before, rtol=0, atol=0)
    new = quiet_engine(limit_val_batches=0, **copy.deepcopy(limits))
    fit(new, second, surfaces)
    assert new.trainer.global_step > 0


def test_an_engine_goes_on_with_its_own_model(small_model: SmallModel, surfaces: Surfaces) -> None:
    engine, model = quiet_engine(limit_val_batches=0, max_epochs=1), small_model.build(**BARE)
    fit(engine, model, surfaces)
    with pytest.raises(RuntimeError, match="1 epoch of max_epochs=1"):
        fit(engine, model, surfaces)
    engine.trainer.fit_loop.max_epochs = 2
    fit(engine, model, surfaces)
    assert engine.trainer.current_epoch == 2


def test_a_finished_training_that_is_resumed_says_so_and_is_tested(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces
) -> None:
    epochs = torch.load(trained.checkpoint, weights_only=True)["epoch"] + 1
    engine = quiet_engine(max_epochs=epochs)
    with pytest.warns(UserWarning, match=f"Nothing was trained.*{epochs} epochs of max_epochs={epochs}"):
        (metrics,) = engine.train(small_model.build(), datamodule=surfaces(), ckpt_path=trained.checkpoint)
    assert metrics == pytest.approx(trained.metrics, abs=1e-6)


EFFECTS = {"RamFAE": "cosine", "FEAR": "lr_milestones", "RbAE": "second phase begins"}


@pytest.mark.parametrize("measured", [False, True])
def test_early_stopping_is_explained_at_the_start(
    small_model: SmallModel, surfaces: Surfaces, tmp_path: Path, measured: bool
) -> None:
    """Before anything is trained, so that nobody waits for an hour."""
    evaluator = Evaluator(val_metrics=[AUROC(fields=["pred_score", "gt_label"], prefix="image_")])
    model = small_model.build(evaluator=evaluator if measured else True)
    engine = quiet_engine(max_epochs=0, callbacks=[EarlyStopping("image_AUROC", mode="max")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(engine, model, surfaces)
    said = [str(warning.message) for warning in caught if "EarlyStopping" in str(warning.message)]
    assert any(EFFECTS.get(small_model.name, "no such effect") in text for text in said) is (
        small_model.name in EFFECTS
    )
    assert any("val_metrics" in text for text in said) is not measured


def test_without_early_stopping_nothing_is_said(small_model: SmallModel, ordered_loader: Any) -> None:
    loader: DataLoader = ordered_loader(2)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(EarlyStopping|Nothing was trained).*")
        quiet_engine(max_epochs=1, limit_train_batches=1).fit(small_model.build(**BARE), loader)
