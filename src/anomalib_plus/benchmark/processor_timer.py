"""Time limit in CPU seconds, which other load on the machine does not shorten."""

import time
from datetime import timedelta

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import RunningStage


class ProcessorTimer(Timer):
    """Callback that ends a fit after a number of CPU seconds of this process, without data loading processes.

    Schedules that follow a :class:`~lightning.pytorch.callbacks.Timer` follow it too.

    Args:
        seconds: CPU seconds of the training, above 0.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(duration=timedelta(seconds=seconds), verbose=False)
        self._started: float | None = None
        self._used = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start counting."""
        self._started = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop counting."""
        self._used, self._started = self.time_elapsed(), None

    def time_elapsed(self, stage: str = RunningStage.TRAINING) -> float:
        """CPU seconds of the training so far; other stages are not counted and give 0."""
        if stage != RunningStage.TRAINING:
            return 0.0
        return self._used + (0.0 if self._started is None else time.process_time() - self._started)
