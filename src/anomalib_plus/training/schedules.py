"""Progress of a training under any limit (epochs, steps or time), and learning rate schedules that follow it."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRScheduler

COSINE_EFFECT = (
    "the learning rate follows a cosine until the trainer's limit, so it is still high if a training stops early. With "
    "a lower max_epochs it reaches its minimum."
)
"""Effect of early stopping on a training with :func:`cosine_factor`."""


def training_progress(trainer: Trainer, epoch: int) -> float:
    """Compute the fraction of the fit that is completed when ``epoch`` starts, in [0, 1].

    The tightest of the trainer's limits counts: ``max_epochs``, ``max_steps`` or ``max_time``. Without any limit it is
    0, so that a schedule keeps its initial value.
    """
    shares = [0.0]
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        shares.append(epoch / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    for timer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(timer, Timer) and (remaining := timer.time_remaining()) is not None:
            elapsed = timer.time_elapsed()
            shares.append(elapsed / (elapsed + max(remaining, 0.0)) if elapsed > 0 else 0.0)
    return min(max(shares), 1.0)


def cosine_factor(trainer: Trainer, final_factor: float) -> Callable[[int], float]:
    """Return the factor of the learning rate per epoch: from 1 down to ``final_factor`` along half a cosine.

    With ``max_epochs`` as the limit this is ``CosineAnnealingLR(T_max=max_epochs)``, stepped once per epoch.
    """

    def factor(epoch: int) -> float:
        cosine = (1 + math.cos(math.pi * training_progress(trainer, epoch))) / 2
        return final_factor + (1 - final_factor) * cosine

    return factor


def multi_step_factor(trainer: Trainer, milestones: Sequence[float], gamma: float) -> Callable[[int], float]:
    """Return the factor of the learning rate per epoch: ``gamma`` per milestone reached, a fraction of the training.

    With ``max_epochs`` as the limit this is ``MultiStepLR`` with ``milestone * max_epochs``.
    """

    def factor(epoch: int) -> float:
        progress = training_progress(trainer, epoch)
        return gamma ** sum(progress >= milestone for milestone in milestones)

    return factor


def scheduled_adam(
    parameters: Iterable[torch.nn.Parameter],
    learning_rate: float,
    factor: Callable[[int], float],
    weight_decay: float = 0.0,
) -> OptimizerLRScheduler:
    """Build Adam with the learning rate ``learning_rate * factor(epoch)``, for ``configure_optimizers``."""
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def check_learning_rates(learning_rate: float, min_learning_rate: float | None) -> None:
    """Raise ``ValueError`` unless the learning rate is positive, and the final one, if any, not larger."""
    if not learning_rate > 0:  # nor NaN
        msg = f"learning_rate must be positive, got {learning_rate}."
        raise ValueError(msg)
    if min_learning_rate is not None and not 0 < min_learning_rate <= learning_rate:
        msg = f"0 < min_learning_rate <= learning_rate must hold, got {min_learning_rate} and {learning_rate}."
        raise ValueError(msg)


def cosine_adam(
    model: LightningModule,
    parameters: Iterable[torch.nn.Parameter],
    learning_rate: float,
    min_learning_rate: float | None,
    weight_decay: float = 0.0,
) -> OptimizerLRScheduler:
    """Build Adam whose learning rate falls to ``min_learning_rate`` along :func:`cosine_factor`; constant if None."""
    if min_learning_rate is None:
        return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)
    factor = cosine_factor(model.trainer, min_learning_rate / learning_rate)
    return scheduled_adam(parameters, learning_rate, factor, weight_decay)
