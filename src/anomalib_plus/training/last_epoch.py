"""Leave a checkpoint of the last finished epoch, with thresholds, however a training ends."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric


class LastEpochCheckpoint(Callback):
    """Save after each epoch, and validate the last one.

    Thresholds come from a validation, and Lightning saves after a validation. By itself it leaves neither for the
    epochs since the last multiple of ``check_val_every_n_epoch``, nor for one that ``max_steps`` cuts short.

    - Each finished epoch is saved by the checkpoint callbacks that keep the newest state only, which is what anomalib's
      engine adds. Callbacks with a monitor, with intervals of their own or that keep all files work as ever.
    - The training's last epoch is validated, whatever ends it.
    - Ctrl-C goes back to the weights in the last checkpoint, validates these and adds the thresholds to the file.
      Its other content stays, so a resumed training goes on as if nothing had happened. A training of several
      processes is left as it is, because they do not stop at the same place.
    """

    def __init__(self) -> None:
        self._newest_only: list[ModelCheckpoint] = []
        self._saved = False
        self._validated_step = -1
        self._saved_before_validation = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Find the callbacks that keep the newest state only and have not been told when to save."""
        self._newest_only = [
            callback
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint)
            and callback.monitor is None
            and callback.save_top_k == 1
            and callback._save_on_train_epoch_end is None  # an argument of its constructor
        ]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Let validations in the midst of an epoch be saved, as usual."""
        self._save_on_train_epoch_end(None)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Remember of which weights the thresholds are."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Validate if this was the last epoch, and have the epoch saved.

        Checkpoint callbacks run after all others: what they save has the state of a finished epoch.
        """
        self._save_on_train_epoch_end(True)
        if ends_here(trainer):
            self._validate(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember that there is a file of this fit, and of which weights one was saved before their validation."""
        self._saved = True
        if self._validated_step != trainer.global_step:
            self._saved_before_validation = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Catch up where something ended the training after this callback had its turn at the epoch's end."""
        self._save_on_train_epoch_end(None)
        self._validate(trainer)
        if self._validated_step == trainer.global_step == self._saved_before_validation:
            for file in self._files() if trainer.is_global_zero else ():
                checkpoint = _read(trainer, file)
                if checkpoint["global_step"] == trainer.global_step:
                    _exchange_weights(trainer, file, checkpoint, pl_module)
            trainer.strategy.barrier()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Validate the last checkpoint after Ctrl-C; errors and signals leave it as it is.

        A callback with ``save_on_exception`` says that the interrupted state is wanted, so that is not touched.
        """
        self._save_on_train_epoch_end(None)
        wanted = any(getattr(callback, "save_on_exception", False) for callback in trainer.checkpoint_callbacks)
        interrupted = isinstance(exception, KeyboardInterrupt)
        if interrupted and trainer.state.fn == TrainerFn.FITTING and trainer.world_size == 1 and not wanted:
            for file in self._files():
                self._complete(trainer, pl_module, file)

    def _complete(self, trainer: Trainer, pl_module: LightningModule, file: str) -> None:
        checkpoint = _read(trainer, file)
        if checkpoint["global_step"] == self._validated_step or not trainer.enable_validation:
            return
        rank_zero_info(f"Measuring the thresholds of the last finished epoch for {file} ...")
        pl_module.load_state_dict(checkpoint["state_dict"])
        for module in pl_module.modules():
            if isinstance(module, Metric):  # the interruption may have left half a validation in them
                module.reset()
        # The trainer's counters are those of the interrupted epoch: nobody may save or stop because of them.
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [item for item in callbacks if not isinstance(item, Checkpoint | EarlyStopping)]  # type: ignore[attr-defined]
        self._validated_step = -1
        self._validate(trainer)
        trainer.callbacks = callbacks  # type: ignore[attr-defined]
        _exchange_weights(trainer, file, checkpoint, pl_module)

    def _validate(self, trainer: Trainer) -> None:
        """Run a validation, unless these weights had theirs.

        The random numbers of the training go on as they would have without it.
        """
        if self._validated_step == trainer.global_step or not trainer.enable_validation:
            return
        loop = trainer.fit_loop.epoch_loop.val_loop
        with isolate_rng():
            trainer.validating = True
            loop.restarting = False  # a resumed loop would leave out what the interrupted training had validated
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
    """Tell, at the end of a training epoch, whether the trainer will begin no other one."""
    epochs = trainer.current_epoch + 1
    if 0 <= trainer.max_steps <= trainer.global_step or 0 <= (trainer.max_epochs or -1) <= epochs:
        return True
    may_stop = epochs >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)
    return trainer.should_stop and may_stop


def _read(trainer: Trainer, file: str) -> dict[str, Any]:
    return trainer.strategy.checkpoint_io.load_checkpoint(file, map_location="cpu")


def _exchange_weights(trainer: Trainer, file: str, checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Write the file anew with the module's weights, which include the thresholds, and all else that it holds."""
    trainer.strategy.checkpoint_io.save_checkpoint(checkpoint | {"state_dict": module.state_dict()}, file)
