"""The two phases of RB-AE's training."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from anomalib_plus.counts import counted
from anomalib_plus.models.rbae.torch_model import Phase
from anomalib_plus.training.schedules import COSINE_EFFECT, training_progress

_EARLY_STOPPING = (
    "when its patience runs out in the first phase, the second phase begins and its counter is reset; its thresholds, "
    "or a non-finite metric, end the training in either phase."
)


def early_stopping_effect(has_cosine: bool) -> str:
    """Describe what early stopping does to a training of two phases, with a cosine schedule or without."""
    return f"{_EARLY_STOPPING} Besides, {COSINE_EFFECT}" if has_cosine else _EARLY_STOPPING


class Phases(Callback):
    """Start the second phase of a training when it is due, or when the patience of early stopping runs out.

    During the first phase, ``min_epochs`` is raised so that early stopping by patience does not end the training. All
    other reasons to stop do: a time limit, a threshold of early stopping, a non-finite metric. The counter of early
    stopping is reset for the second phase.
    """

    def __init__(self) -> None:
        self._min_epochs: int | None = None
        self._waiting = False
        self._phase_1_is_over = False

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Start a new fit in the first phase; a checkpoint to resume from, loaded later, restores its own.

        Not later, because DDP synchronises the parameters that require gradients when the strategy is set up.
        """
        self._phase_1_is_over = False
        if stage == "fit" and trainer.global_step == 0 and pl_module.model.phase == 2:
            pl_module.model.enter_phase_1()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Check the strategy and early stopping.

        Raises:
            ValueError: If DDP does not look for unused parameters; torch's own error does not name the remedy.
        """
        if not getattr(trainer.strategy.model, "find_unused_parameters", True):
            msg = (
                "Each phase of RbAE trains a part of the network only: for several processes set "
                "--trainer.strategy=ddp_find_unused_parameters_true."
            )
            raise ValueError(msg)
        self._min_epochs = trainer.min_epochs
        self._waiting = pl_module.model.phase == 1 and pl_module.phase1_share < 1 and bool(_callbacks(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """End the first phase if the patience of early stopping has run out."""
        if self._waiting and _patience_is_over(trainer):
            epochs = counted(trainer.current_epoch, "epoch")
            rank_zero_info(f"RbAE: early stopping ends the first phase after {epochs}.")
            self._phase_1_is_over = True
            trainer.should_stop = False
            self._count_anew(trainer)
        elif self._waiting:
            trainer.fit_loop.min_epochs = max(self._min_epochs or 0, trainer.current_epoch + 2)
            self._give_way(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Start the second phase when it is due; a fit never returns to the first.

        With several processes only at the start of an epoch, where they agree, because their clocks differ.
        """
        if pl_module.model.phase == 1 and (batch_idx == 0 or trainer.world_size == 1):
            due: Phase = trainer.strategy.broadcast(self.due_phase(trainer, pl_module))
            if due == 2:
                pl_module.enter_phase_2()

    def due_phase(self, trainer: Trainer, pl_module: Any) -> Phase:
        """Return the phase that is due by the trainer's limits, ``max_epochs`` rounded to a whole epoch."""
        if pl_module.phase1_share == 1:
            return 1
        if self._phase_1_is_over:
            return 2
        epoch, limit = trainer.current_epoch, trainer.max_epochs or -1
        progress = training_progress(trainer, epoch)
        if epoch > 0 and limit > 0:
            progress = max(progress, (epoch + 0.5) / limit)
        return 2 if progress >= pl_module.phase1_share else 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:  # noqa: ARG002
        """Reset early stopping if the second phase has started, and let other callbacks stop the training."""
        if self._waiting and pl_module.model.phase == 2:
            self._count_anew(trainer)
        self._give_way(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Let a validation's callbacks stop the training."""
        self._give_way(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Restore the trainer's ``min_epochs``; warn if the training ended in its first phase."""
        self._stop_waiting(trainer)
        if pl_module.model.phase == 1:
            remedy = (
                "Train longer (at least two epochs) or lower phase1_epochs in relation to phase2_epochs."
                if pl_module.phase1_share < 1
                else "phase2_epochs=0 asked for that."
            )
            rank_zero_warn(
                "RbAE's training ended in its first phase: no reference was chosen, and repair and discrimination are "
                f"untrained. The anomaly map is the feature residual (MSFR) without repair. {remedy}"
            )

    def _give_way(self, trainer: Trainer) -> None:
        if trainer.should_stop and not _patience_is_over(trainer):
            self._stop_waiting(trainer)

    def _count_anew(self, trainer: Trainer) -> None:
        """Reset early stopping, because the scores of the two phases' maps are not comparable."""
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
