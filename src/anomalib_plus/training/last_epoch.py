"""Checkpoint of the last finished epoch, with thresholds, however a training ends."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric


class LastEpochCheckpoint(Callback):
    """Save after each epoch, and validate after the last one.

    By itself, Lightning validates (which computes the thresholds) and saves every ``check_val_every_n_epoch`` epochs
    only, so later epochs, and one that ``max_steps`` ends, would have neither thresholds nor checkpoint.

    - Checkpoint callbacks that keep the newest state only, such as the one of anomalib's engine, save after each
      epoch. Callbacks with a monitor, with their own intervals or that keep all files are not changed.
    - The last epoch is validated, whatever ends the training.
    - After Ctrl-C, the weights of the last checkpoint are validated and the thresholds are added to the file. Its other
      content stays, so that the training can be resumed. With several processes nothing is done, because they are
      interrupted at different steps.
    """

    def __init__(self) -> None:
        self._newest_only: list[ModelCheckpoint] = []
        self._saved = False
        self._validated_step = -1
        self._saved_before_validation = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Find the callbacks that keep the newest state only and have no interval of their own."""
        self._newest_only = [
            callback
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint)
            and callback.monitor is None
            and callback.save_top_k == 1
            and callback._save_on_train_epoch_end is None  # an argument of its constructor
        ]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Let the callbacks save after validations within the epoch, as usual."""
        self._save_on_train_epoch_end(None)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Remember the step whose weights the thresholds belong to."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Validate if this was the last epoch, and let the callbacks save the epoch.

        Checkpoint callbacks run after all others, so they save the state of a finished epoch.
        """
        self._save_on_train_epoch_end(True)
        if ends_here(trainer):
            self._validate(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember that this fit has saved a file, and the step if that was before its validation."""
        self._saved = True
        if self._validated_step != trainer.global_step:
            self._saved_before_validation = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate, and add the thresholds to saved files, if a later callback ended the training."""
        self._save_on_train_epoch_end(None)
        self._validate(trainer)
        if self._validated_step == trainer.global_step == self._saved_before_validation:
            for file in self._files() if trainer.is_global_zero else ():
                checkpoint = _read(trainer, file)
                if checkpoint["global_step"] == trainer.global_step:
                    _exchange_weights(trainer, file, checkpoint, pl_module)
            trainer.strategy.barrier()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Validate the last checkpoint after Ctrl-C, but not after errors and signals.

        Nothing is done if a callback with ``save_on_exception`` saves the interrupted state.
        """
        self._save_on_train_epoch_end(None)
        saves = any(getattr(callback, "save_on_exception", False) for callback in trainer.checkpoint_callbacks)
        interrupted = isinstance(exception, KeyboardInterrupt)
        if interrupted and trainer.state.fn == TrainerFn.FITTING and trainer.world_size == 1 and not saves:
            for file in self._files():
                self._complete(trainer, pl_module, file)

    def _complete(self, trainer: Trainer, pl_module: LightningModule, file: str) -> None:
        checkpoint = _read(trainer, file)
        if checkpoint["global_step"] == self._validated_step or not trainer.enable_validation:
            return
        rank_zero_info(f"Computing the thresholds of the last finished epoch for {file} ...")
        pl_module.load_state_dict(checkpoint["state_dict"])
        for module in pl_module.modules():
            if isinstance(module, Metric):  # the interruption may have left half a validation in them
                module.reset()
        # The trainer's counters belong to the interrupted epoch, so no callback may save or stop by them.
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [item for item in callbacks if not isinstance(item, Checkpoint | EarlyStopping)]  # type: ignore[attr-defined]
        self._validated_step = -1
        self._validate(trainer)
        trainer.callbacks = callbacks  # type: ignore[attr-defined]
        _exchange_weights(trainer, file, checkpoint, pl_module)

    def _validate(self, trainer: Trainer) -> None:
        """Validate unless these weights have been validated, without changing the training's random states."""
        if self._validated_step == trainer.global_step or not trainer.enable_validation:
            return
        loop = trainer.fit_loop.epoch_loop.val_loop
        with isolate_rng():
            trainer.validating = True
            loop.restarting = False  # else it would skip batches that the interrupted training had validated
            loop.run()
            trainer.training = True

    def _save_on_train_epoch_end(self, value: bool | None) -> None:
        for callback in self._newest_only:
            callback._save_on_train_epoch_end = value

    def _files(self) -> set[str]:
        files = {
            path for callback in self._newest_only for path in (callback.best_model_path, callback.last_model_path)
        }
        return files - {""} if self._saved else set()


def ends_here(trainer: Trainer) -> bool:
    """Return True, at the end of a training epoch, if the trainer will start no other one."""
    epochs = trainer.current_epoch + 1
    if 0 <= trainer.max_steps <= trainer.global_step or 0 <= (trainer.max_epochs or -1) <= epochs:
        return True
    may_stop = epochs >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)
    return trainer.should_stop and may_stop


def _read(trainer: Trainer, file: str) -> dict[str, Any]:
    return trainer.strategy.checkpoint_io.load_checkpoint(file, map_location="cpu")


def _exchange_weights(trainer: Trainer, file: str, checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Replace the weights in a file by the module's, which include the thresholds."""
    trainer.strategy.checkpoint_io.save_checkpoint(checkpoint | {"state_dict": module.state_dict()}, file)
