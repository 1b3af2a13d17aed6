"""Progress of the ``anomalib-plus`` command where there is no terminal, or with ``--quiet``: a line per event."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from anomalib_plus.counts import counted


class EpochLines(Callback):
    """Print a line for the beginning of a training, each epoch, and the results of a test or prediction; no bar.

    Args:
        quiet: Print no other results: Lightning's table of test metrics is left out.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the model and the number of batches."""
        self._began = time.monotonic()
        batches = counted(trainer.num_training_batches, "batch", "batches")
        _print(trainer, f"training {type(pl_module).__name__}: {batches} per epoch")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what a bar would show."""
        del pl_module
        limit = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        seconds = time.monotonic() - self._began
        values = _values(trainer.progress_bar_metrics)
        _print(trainer, f"epoch {trainer.current_epoch + 1}{limit}: {values}{values and ', '}{seconds:.0f} s in all")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the table out if quiet."""
        del pl_module
        trainer.test_loop.verbose = trainer.test_loop.verbose and not self.quiet

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the metrics and the folder of the results."""
        del pl_module
        if self.quiet:
            images = getattr(getattr(trainer, "datamodule", None), "test_data", None)
            has_defects = getattr(images, "has_anomalous", True)
            values = _values(trainer.callback_metrics) if has_defects else "no metrics, because no image is defective"
            _print(trainer, f"test: {values}")
        _print(trainer, f"results: {trainer.default_root_dir}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the folder of the results."""
        del pl_module
        _print(trainer, f"results: {trainer.default_root_dir}")


def _values(metrics: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {float(value):.4g}" for name, value in metrics.items() if name != "v_num")


def _print(trainer: Trainer, line: str) -> None:
    if trainer.is_global_zero:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
