"""However a training ends, there is a checkpoint of its last finished epoch, with thresholds of its own weights."""

import copy
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping

from at_step import AtStep, interrupt, stop

from .conftest import Surfaces
from .small_models import SmallModel, each_once, quiet_engine

NEVER = 100
STEPS = 3
"""Per epoch."""


def crash(trainer: Any) -> None:
    raise OSError("a disk is gone")


def evaluator() -> Evaluator:
    return Evaluator(val_metrics=[AUROC(fields=["pred_score", "gt_label"], prefix="image_")])


def fit(model: AnomalibModule, surfaces: Surfaces, folder: Path, **options: Any) -> None:
    arguments = {"max_epochs": 3, "check_val_every_n_epoch": NEVER, "default_root_dir": folder, **options}
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; xdist's workers differ
    try:
        quiet_engine(**arguments).fit(model, datamodule=surfaces())
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores the signal for the rest of the process


def load(folder: Path) -> dict[str, Any]:
    (file,) = folder.rglob("*.ckpt")
    return torch.load(file, weights_only=True)


def thresholds(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if name.startswith("post_processor.")}


def assert_own_thresholds(small_model: SmallModel, checkpoint: dict[str, Any], surfaces: Surfaces) -> None:
    """Those of the checkpoint are what a validation of its weights gives."""
    kept = thresholds(checkpoint["state_dict"])
    assert kept
    assert all(value.isfinite() for value in kept.values())
    model = small_model.build()
    model.model.load_state_dict(
        {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items() if name[:6] == "model."}
    )
    quiet_engine().validate(model, datamodule=surfaces(), verbose=False)
    torch.testing.assert_close(thresholds(model.state_dict()), kept, atol=1e-6, rtol=0)


ENDS: dict[str, tuple[dict[str, Any], int, int]] = {
    "max_epochs": ({"max_epochs": 1}, STEPS, 0),
    "max_epochs no multiple": ({"max_epochs": 3, "check_val_every_n_epoch": 2}, 3 * STEPS, 2),
    "max_steps in an epoch": ({"max_steps": 4, "max_epochs": -1}, 4, 1),
    "max_steps, validation each epoch": ({"max_steps": 4, "max_epochs": -1, "check_val_every_n_epoch": 1}, 4, 1),
    "max_time": ({"max_time": timedelta(microseconds=1)}, 1, 0),
    "stopped by a callback": ({"callbacks": [AtStep(5, stop)]}, 5, 1),
    "stopped after the epoch": (
        {"callbacks": [EarlyStopping("train_loss", stopping_threshold=1e9, check_on_train_epoch_end=True)]},
        STEPS,
        0,
    ),
}
"""Trainer arguments, steps that the checkpoint has seen, and its epoch."""


@each_once(ENDS, every=["max_steps in an epoch"])
def test_the_end_of_a_training_is_saved_with_its_thresholds(
    small_model: SmallModel, surfaces: Surfaces, tmp_path: Path, case: str
) -> None:
    options, steps, epoch = copy.deepcopy(ENDS[case])  # callbacks keep state
    model = small_model.build()
    fit(model, surfaces, tmp_path, **options)
    checkpoint = load(tmp_path)
    assert (checkpoint["global_step"], checkpoint["epoch"]) == (steps, epoch)
    torch.testing.assert_close(checkpoint["state_dict"], model.state_dict(), rtol=0, atol=0)
    assert_own_thresholds(small_model, checkpoint, surfaces)


class DuringValidation(Callback):
    """Interrupts the first validation of weights that have seen so many steps."""

    def __init__(self, step: int) -> None:
        self.step, self.due = step, True

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        if self.due and trainer.global_step == self.step:
            self.due = False
            interrupt(trainer)


INTERRUPTIONS: dict[str, tuple[Callable[[], Callback], dict[str, Any]]] = {
    "each validated": (lambda: AtStep(8, interrupt), {"check_val_every_n_epoch": 1}),
    "in a validation": (lambda: DuringValidation(3 * STEPS), {"check_val_every_n_epoch": 3}),
    "in an epoch": (lambda: AtStep(8, interrupt), {}),
}


@each_once(INTERRUPTIONS, every=["in an epoch"])
def test_an_interrupted_training_leaves_its_last_epoch_with_thresholds(
    small_model: SmallModel, surfaces: Surfaces, tmp_path: Path, case: str
) -> None:
    """RbAE goes back from its second phase to the first. A resumed training must not notice."""
    callback, options = INTERRUPTIONS[case]
    seed_everything(0, verbose=False)
    whole = small_model.build()
    fit(whole, surfaces, tmp_path / "whole", **options)

    seed_everything(0, verbose=False)
    with pytest.raises(SystemExit):
        fit(small_model.build(), surfaces, tmp_path / "interrupted", callbacks=[callback()], **options)
    checkpoint = load(tmp_path / "interrupted")
    assert (checkpoint["global_step"], checkpoint["epoch"]) == (2 * STEPS, 1)
    assert_own_thresholds(small_model, checkpoint, surfaces)

    seed_everything(1, verbose=False)
    resumed = small_model.build()
    (file,) = (tmp_path / "interrupted").rglob("*.ckpt")
    arguments = {"max_epochs": 3, "check_val_every_n_epoch": NEVER, "default_root_dir": tmp_path / "resumed", **options}
    quiet_engine(**arguments).fit(resumed, datamodule=surfaces(), ckpt_path=file)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_each_epoch_is_saved(small_model: SmallModel, surfaces: Surfaces, tmp_path: Path) -> None:
    """Whatever kills a training takes an epoch at most; thresholds may be older."""
    with pytest.raises(OSError, match="a disk is gone"):
        fit(small_model.build(), surfaces, tmp_path, callbacks=[AtStep(8, crash)])
    checkpoint = load(tmp_path)
    assert (checkpoint["global_step"], checkpoint["epoch"]) == (2 * STEPS, 1)
    assert all(value.isnan() for value in thresholds(checkpoint["state_dict"]).values())


def test_checkpoint_callbacks_of_the_user_keep_their_rules(
    small_model: SmallModel, surfaces: Surfaces, tmp_path: Path
) -> None:
    """The best of the validations that there are, the last one's included; all files; by steps."""
    options = {"filename": "{epoch}", "save_top_k": -1}
    callbacks = {
        "best": ModelCheckpoint(tmp_path / "best", monitor="image_AUROC", mode="max", **options),
        "all": ModelCheckpoint(tmp_path / "all", **options),
        "steps": ModelCheckpoint(tmp_path / "steps", filename="{step}", save_top_k=-1, every_n_train_steps=5),
    }
    fit(
        small_model.build(evaluator=evaluator()), surfaces, tmp_path, callbacks=list(callbacks.values()),
        max_epochs=5, check_val_every_n_epoch=2,
    )  # fmt: skip
    names = {name: sorted(file.stem for file in (tmp_path / name).glob("*")) for name in callbacks}
    validated = ["epoch=1", "epoch=3", "epoch=4"]
    assert names == {"best": validated, "all": validated, "steps": ["step=10", "step=15", "step=5"]}


@pytest.mark.parametrize(
    "options",
    [{"limit_val_batches": 0}, {"callbacks": [ModelCheckpoint(save_top_k=0)]}, {"fast_dev_run": 2}],
    ids=["no validation", "no checkpoint", "fast_dev_run"],
)
def test_a_training_without_validation_or_checkpoint_ends_as_asked(
    small_model: SmallModel, surfaces: Surfaces, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Without a file, the model has its thresholds all the same."""
    model = small_model.build()
    fit(model, surfaces, tmp_path, max_epochs=1, **options)
    validates = options.get("limit_val_batches") != 0
    assert bool(list(tmp_path.rglob("*.ckpt"))) is not validates
    assert bool(thresholds(model.state_dict())["post_processor._image_threshold"].isfinite()) is validates
