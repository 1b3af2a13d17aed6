"""Early stopping ends RbAE's first phase and then the second; whatever else stops a training stops it in either."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping

from anomalib_plus import RbAE

SMALL: dict[str, Any] = {
    "widths": (4, 4, 8, 8, 8),
    "fusion_width": 4,
    "fdm_width": 4,
    "perceptual": False,
    "pre_processor": RbAE.configure_pre_processor((32, 32)),
    "visualizer": False,
    "evaluator": False,
    "post_processor": False,
}
EPOCHS = 12
"""Eight of them belong to the first phase."""


class Phases(Callback):
    """Phase at the end of each epoch; logs a metric that never improves."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.phases: list[int] = []

    def on_validation_epoch_end(self, trainer: Any, pl_module: RbAE) -> None:
        pl_module.log("metric", self.value)

    def on_train_epoch_end(self, trainer: Any, pl_module: RbAE) -> None:
        self.phases.append(pl_module.model.phase)


def fit(root: Path, *callbacks: Callback, ckpt_path: Path | None = None, **arguments: Any) -> tuple[RbAE, Engine]:
    seed_everything(0, verbose=False)
    datamodule = MVTecAD(root, "surface", num_workers=0, train_batch_size=3, eval_batch_size=6)
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    options = {"max_epochs": EPOCHS, "limit_val_batches": 1, "accelerator": "cpu", "devices": 1, **silent, **arguments}
    engine, model = Engine(callbacks=list(callbacks), **options), RbAE(**SMALL)
    engine.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return model, engine


@pytest.mark.parametrize(
    ("every", "at_epoch_end", "expected"),
    [(1, None, [1] * 3 + [2] * 3), (1, False, [1] * 3 + [2] * 3), (2, None, [1] * 6 + [2] * 6)],
    ids=["epoch end", "validation", "each second epoch"],
)
def test_early_stopping_ends_one_phase_after_the_other(
    mvtec_layout: Path, every: int, at_epoch_end: bool | None, expected: list[int]
) -> None:
    """The first value is the best, the next two are the patience: three epochs in each phase."""
    history = Phases()
    stopping = EarlyStopping("metric", patience=2, check_on_train_epoch_end=at_epoch_end)
    _, engine = fit(mvtec_layout, history, stopping, check_val_every_n_epoch=every)
    assert history.phases == expected
    assert engine.trainer.min_epochs in (None, 0)


def test_patience_begins_anew_with_a_second_phase_that_was_due(mvtec_layout: Path) -> None:
    """Without this, the best score of the first phase would end the second one at once."""
    history = Phases()
    fit(mvtec_layout, history, EarlyStopping("metric", patience=9))
    assert history.phases == [1] * 8 + [2] * 4


def test_early_stopping_ends_a_training_of_one_phase(mvtec_layout: Path) -> None:
    history = Phases()
    fit(mvtec_layout, history, EarlyStopping("metric", patience=2), max_epochs=1)
    assert history.phases == [1]


def test_a_resumed_training_begins_the_second_phase_all_the_same(mvtec_layout: Path, tmp_path: Path) -> None:
    """The checkpoint of the epoch in which the patience ran out knows that it did."""

    class Killed(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 3:
                raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        fit(mvtec_layout, Phases(), EarlyStopping("metric", patience=2), Killed(), default_root_dir=tmp_path)
    (file,) = tmp_path.rglob("*.ckpt")
    assert torch.load(file, weights_only=True)["epoch"] == 2
    resumed = Phases()
    fit(mvtec_layout, resumed, EarlyStopping("metric", patience=2), ckpt_path=file)
    assert resumed.phases[-3:] == [2, 2, 2]
    assert 1 not in resumed.phases[-3:]
    assert len(resumed.phases) == 3


class AtSecondBatch(Callback):
    """Asks for a stop in the first epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 2


@pytest.mark.parametrize(
    ("history", "callbacks", "arguments"),
    [
        (Phases(), [AtSecondBatch()], {}),
        (Phases(), [], {"max_time": timedelta(microseconds=1)}),  # of which the second phase gets its share
        (Phases(float("nan")), [], {}),
    ],
    ids=["callback", "time", "NaN"],
)
def test_what_else_ends_a_training_ends_it_in_its_first_epoch(
    mvtec_layout: Path, history: Phases, callbacks: list[Callback], arguments: dict[str, Any]
) -> None:
    _, engine = fit(mvtec_layout, history, *callbacks, EarlyStopping("metric", patience=2), **arguments)
    assert engine.trainer.global_step <= 2
    assert set(history.phases) == {2 if "max_time" in arguments else 1}
