"""Pass over the training images that estimates the residuals' mean and covariance (``residual="whitened"``)."""

import math
from itertools import islice
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from anomalib_plus.training.last_epoch import ends_here


class ResidualPass(Callback):
    """Estimate the residuals of the current weights before each validation of a fit, and at its end.

    So thresholds, monitored metrics and checkpoints always belong to the same statistics, whatever ends the training,
    and the training itself does not change. The pass sees as many batches as an epoch, of images in their own order.
    """

    def __init__(self) -> None:
        self._estimated_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Forget the steps of an earlier fit."""
        self._estimated_step = -1

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Estimate the residuals, unless this is no validation of a fit."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._estimate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Estimate the residuals, for the checkpoint, if this was the last epoch of a fit without validation."""
        if not trainer.enable_validation and ends_here(trainer):
            self._estimate(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Estimate the residuals if that was not done for the last weights."""
        if not trainer.enable_validation and self._estimated_step != trainer.global_step:
            self._estimate(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Warn if the residuals were never estimated."""
        if not pl_module.model.knows_residuals:
            rank_zero_warn(
                "residual='whitened' needs the mean and covariance of the residuals of good images, and this model has "
                "none, because its training was cut off before its first validation: its maps show plain distances. "
                "Continue the training (ckpt_path=FILE), or call model.estimate_residuals(batches of good images)."
            )

    on_predict_start = on_test_start

    def _estimate(self, trainer: Trainer, pl_module: Any) -> None:
        loader = trainer.train_dataloader
        if not isinstance(loader, DataLoader):
            msg = f"residual='whitened' needs the training images from one DataLoader, got a {type(loader).__name__}."
            raise TypeError(msg)
        # A loader of its own, because a second iteration could disturb the training's workers; and random numbers of
        # its own, so that the training goes on as without it.
        images = DataLoader(
            loader.dataset,
            batch_size=loader.batch_size or 1,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        )
        limit = None if math.isinf(trainer.num_training_batches) else int(trainer.num_training_batches)
        precision = trainer.precision_plugin
        with isolate_rng(), precision.forward_context():
            batches = (precision.convert_input(batch.image) for batch in islice(images, limit))
            pl_module.estimate_residuals(batches)
        for whitening in pl_module.model.whitening:
            for buffer in whitening.buffers():  # those of the first process, because batch statistics differ
                buffer.copy_(trainer.strategy.broadcast(buffer.cpu()))
        self._estimated_step = trainer.global_step
