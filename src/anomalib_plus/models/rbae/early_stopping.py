"""Early stopping in a training of two phases."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.rank_zero import rank_zero_info


class EarlyStoppingPerPhase(Callback):
    """Let early stopping whose patience is over end the first phase, and count anew in the second.

    Until the first phase is over, Lightning is told that it may not stop yet, by its own ``min_epochs``. Whatever else
    asks for a stop gets it: a time limit, a threshold of early stopping, a metric that is NaN.
    """

    def __init__(self) -> None:
        self._min_epochs: int | None = None
        self._waiting = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Wait for the second phase if there will be one and there is something to wait with."""
        self._min_epochs = trainer.min_epochs
        self._waiting = pl_module.model.phase == 1 and pl_module.phase1_share < 1 and bool(_callbacks(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Go on with the second phase where early stopping has ended the first."""
        if self._waiting and _patience_is_over(trainer):
            rank_zero_info(f"RbAE: early stopping ends the first phase after {trainer.current_epoch} epochs.")
            pl_module.phase1_is_over = True
            trainer.should_stop = False
            self._count_anew(trainer)
        elif self._waiting:
            trainer.fit_loop.min_epochs = max(self._min_epochs or 0, trainer.current_epoch + 2)
            self._give_way(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:  # noqa: ARG002
        """Notice that the second phase has begun because it was due, or that something else asks for a stop."""
        if self._waiting and pl_module.model.phase == 2:
            self._count_anew(trainer)
        self._give_way(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Notice a stop that a validation asked for."""
        self._give_way(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Leave the trainer as it was."""
        self._stop_waiting(trainer)

    def _give_way(self, trainer: Trainer) -> None:
        if trainer.should_stop and not _patience_is_over(trainer):
            self._stop_waiting(trainer)

    def _count_anew(self, trainer: Trainer) -> None:
        """The second phase makes its map in another way: the best score of the first says nothing about it."""
        for callback in _callbacks(trainer):
            callback.wait_count = callback.stopped_epoch = 0
            callback.best_score = torch.tensor(torch.inf if callback.monitor_op == torch.lt else -torch.inf)
        self._stop_waiting(trainer)

    def _stop_waiting(self, trainer: Trainer) -> None:
        if self._waiting:
            self._waiting = False
            trainer.fit_loop.min_epochs = self._min_epochs


def _callbacks(trainer: Trainer) -> list[EarlyStopping]:
    return [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]


def _patience_is_over(trainer: Trainer) -> bool:
    return any(callback.wait_count >= callback.patience for callback in _callbacks(trainer))
