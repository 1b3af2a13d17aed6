"""What happens to a training in its middle: a callback that does something after a number of steps."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback


class AtStep(Callback):
    """Does something after a number of steps."""

    def __init__(self, step: int, act: Callable[[Any], None]) -> None:
        self.step, self.act = step, act

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            self.act(trainer)


def stop(trainer: Any) -> None:
    trainer.should_stop = True


def interrupt(trainer: Any) -> None:
    raise KeyboardInterrupt  # what SIGINT becomes; a signal could end the process that runs the tests
