"""Say at the start of a fit what would make it end without, or long before, a trained model."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.rank_zero import rank_zero_warn


class FitCheck(Callback):
    """Refuse a trainer that another fit has used up; say what early stopping does to the model's training.

    A trainer, and so anomalib's engine, counts epochs and steps over all its fits: a second model would get what is
    left of the limits, often nothing, and its checkpoint would replace the first one's.
    """

    def __init__(self) -> None:
        self._trained = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do both.

        Raises:
            RuntimeError: If the trainer's limits are spent, or it has trained another model.
        """
        # A checkpoint to resume from brings its own counts, which are loaded after this.
        if trainer.ckpt_path is None:
            _check_is_unused(trainer, pl_module)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                _explain(callback, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ARG002
        """Remember that there was something to do: Lightning also starts a training only to close its last epoch."""
        self._trained = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Remember how far this model has come."""
        pl_module.epochs_of_trainer = trainer.current_epoch + 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Say so where a checkpoint was to be resumed whose training is over."""
        if trainer.ckpt_path is not None and not self._trained:
            reached = _spent(trainer) or "no limit is left"
            rank_zero_warn(
                f"Nothing was trained: the training of {trainer.ckpt_path} had ended ({reached}). Raise that limit to "
                "go on with it."
            )


def _check_is_unused(trainer: Trainer, model: LightningModule) -> None:
    if trainer.current_epoch == 0 and trainer.global_step == 0:
        return
    name, epochs = type(model).__name__, trainer.current_epoch
    spent = _spent(trainer)
    if spent:
        msg = (
            f"{name} would not be trained: this engine's limit was spent by an earlier fit ({spent}). Make a new "
            "Engine for each model; to go on with a trained one, give a new Engine ckpt_path=FILE and a higher limit."
        )
        raise RuntimeError(msg)
    if getattr(model, "epochs_of_trainer", 0) != epochs:
        msg = (
            f"This engine has trained another model for {epochs} epochs: {name} would begin with what is left of its "
            "limits and schedules, and overwrite the other's checkpoint. Make a new Engine for each model."
        )
        raise RuntimeError(msg)


def _spent(trainer: Trainer) -> str:
    """The limit that the trainer has reached; empty if there is none."""
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"{trainer.current_epoch} epochs of max_epochs={trainer.max_epochs}"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"{trainer.global_step} steps of max_steps={trainer.max_steps}"
    return ""


def _explain(stopping: EarlyStopping, model: LightningModule) -> None:
    effect = getattr(model, "early_stopping_effect", "")
    if effect:
        rank_zero_warn(f"EarlyStopping by {stopping.monitor} (patience {stopping.patience}): {effect}")
    evaluator = getattr(model, "evaluator", None)
    measured = {metric.name for metric in evaluator.val_metrics} if evaluator else set()
    if not stopping.monitor.startswith("train_loss") and stopping.monitor not in measured:
        rank_zero_warn(
            f"EarlyStopping watches {stopping.monitor}, which the model's evaluator does not measure in validations "
            f"({', '.join(sorted(measured)) or 'it measures nothing there'}): give the model "
            "evaluator=Evaluator(val_metrics=[AUROC(fields=['pred_score', 'gt_label'], prefix='image_')]) for "
            "image_AUROC, or watch train_loss."
        )
