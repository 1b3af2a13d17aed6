"""Checks at the start of a fit for a used trainer and for early stopping."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from anomalib_plus.counts import counted


class FitCheck(Callback):
    """Refuse a trainer that has trained another model, and warn about effects of early stopping.

    A trainer, and so anomalib's engine, counts epochs and steps over all its fits: a second model would be trained for
    the rest of the limits, often nothing, and its checkpoint would replace the first one's.
    """

    def __init__(self) -> None:
        self._trained = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the trainer and its early stopping.

        Raises:
            RuntimeError: If the trainer's limits are reached, or it has trained another model.
        """
        # When resuming, the counts are loaded from the checkpoint after this.
        if trainer.ckpt_path is None:
            _check_is_unused(trainer, pl_module)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                _explain(callback, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ARG002
        """Remember that a batch was trained: resuming a finished training only closes its last epoch."""
        self._trained = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Remember the trainer's number of epochs in the model."""
        pl_module.epochs_of_trainer = trainer.current_epoch + 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Warn if the resumed training was finished already."""
        if trainer.ckpt_path is not None and not self._trained:
            reached = _spent(trainer) or "no limit is left"
            rank_zero_warn(
                f"Nothing was trained: the training of {trainer.ckpt_path} had ended ({reached}). Raise that limit to "
                "continue it."
            )


def _check_is_unused(trainer: Trainer, model: LightningModule) -> None:
    if trainer.current_epoch == 0 and trainer.global_step == 0:
        return
    name, epochs = type(model).__name__, trainer.current_epoch
    spent = _spent(trainer)
    if spent:
        msg = (
            f"{name} would not be trained: an earlier fit of this engine has reached its limit ({spent}). Make a new "
            "Engine for each model; to continue a training, pass ckpt_path=FILE to a new Engine with a higher limit."
        )
        raise RuntimeError(msg)
    if getattr(model, "epochs_of_trainer", 0) != epochs:
        msg = (
            f"This engine has trained another model for {counted(epochs, 'epoch')}: {name} would get the rest of its "
            "limits and schedules, and overwrite the other's checkpoint. Make a new Engine for each model."
        )
        raise RuntimeError(msg)


def _spent(trainer: Trainer) -> str:
    """Describe the limit that the trainer has reached; empty if there is none."""
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"{counted(trainer.current_epoch, 'epoch')} of max_epochs={trainer.max_epochs}"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"{counted(trainer.global_step, 'step')} of max_steps={trainer.max_steps}"
    return ""


def _explain(stopping: EarlyStopping, model: LightningModule) -> None:
    effect = getattr(model, "early_stopping_effect", "")
    if effect:
        rank_zero_warn(f"EarlyStopping by {stopping.monitor} (patience {stopping.patience}): {effect}")
    evaluator = getattr(model, "evaluator", None)
    measured = {metric.name for metric in evaluator.val_metrics} if evaluator else set()
    if not stopping.monitor.startswith("train_loss") and stopping.monitor not in measured:
        rank_zero_warn(
            f"EarlyStopping monitors {stopping.monitor}, which the model's evaluator does not compute in validation "
            f"({', '.join(sorted(measured)) or 'it computes nothing there'}): pass "
            "evaluator=Evaluator(val_metrics=[AUROC(fields=['pred_score', 'gt_label'], prefix='image_')]) to the model "
            "for image_AUROC, or monitor train_loss."
        )
