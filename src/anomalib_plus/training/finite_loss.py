"""Checks for non-finite losses and weights."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from anomalib_plus.counts import counted

_ADVICE = (
    "Check the images; resume from the last checkpoint in full precision (--trainer.precision=32), or start a new "
    "training with a lower learning_rate, which a resumed optimizer would ignore."
)


class _Step(NamedTuple):
    epoch: int
    batch_idx: int
    files: tuple[str, ...]
    values: dict[str, Tensor]


class FiniteLoss(Callback):
    """Stop a training whose loss is non-finite, with an error that names terms, batch and images.

    On a CPU every loss is checked before the backward pass, so the weights stay finite. On other devices a check waits
    for the device, so many steps are checked at once; so are the last ones before a validation, before a checkpoint is
    written and at the end of an epoch.

    Args:
        steps_between_checks: Number of steps per check on devices other than a CPU.
    """

    def __init__(self, steps_between_checks: int = 50) -> None:
        self.steps_between_checks = steps_between_checks
        self._batch: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        self._steps: list[_Step] = []
        self._last_good: _Step | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Remember the batch of the next loss."""
        self._batch = (trainer.current_epoch, batch_idx, tuple(getattr(batch, "image_path", None) or ()))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:  # noqa: ARG002
        """Record the loss terms that the model has logged, and check them if due.

        Raises:
            FloatingPointError: If the loss of a step since the last check is non-finite.
        """
        terms: Any = pl_module.loss_terms
        self._steps.append(_Step(*self._batch, terms.terms | {"total": terms.total}))
        if len(self._steps) >= (1 if terms.total.device.type == "cpu" else self.steps_between_checks):
            self.check(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check the steps since the last check."""
        self.check(pl_module)

    on_train_epoch_end = on_validation_start

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Check the steps since the last check; see also :func:`check_weights`."""
        self.check(pl_module)

    def check(self, model: nn.Module) -> None:
        """Check all steps since the last check.

        Raises:
            FloatingPointError: If the loss of one of them is non-finite.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([step.values["total"] for step in steps]).isfinite().tolist()
        if not all(finite):
            first = finite.index(False)
            raise FloatingPointError(_describe(model, steps[first], steps[first - 1] if first else self._last_good))
        self._last_good = steps[-1]


def check_weights(network: nn.Module, model_name: str) -> None:
    """Raise ``FloatingPointError`` if a weight or buffer is non-finite."""
    names = _not_finite(network.state_dict())
    if names:
        weights = counted(len(names), "weight is", "weights are")
        msg = (
            f"{model_name}: {weights} NaN or infinite, for example {names[0]}, so this checkpoint is not written; "
            f"earlier ones are intact. {_ADVICE}"
        )
        raise FloatingPointError(msg)


def _describe(model: nn.Module, step: _Step, before: _Step | None) -> str:
    values = {name: float(value) for name, value in step.values.items()}
    bad = ", ".join(f"{name}={value}" for name, value in values.items() if not math.isfinite(value))
    good = ", ".join(f"{name}={value:.4g}" for name, value in values.items() if math.isfinite(value))
    message = f"{type(model).__name__}: the loss is not finite: {bad}{good and f' ({good})'}, in {_place(step)}."
    # Parameters only: the statistics of batch normalisation have been updated by the batch.
    if before is not None and _not_finite(dict(model.named_parameters())):
        message += f" The weights are NaN or infinite as well; the step before was {_place(before)}."
    return f"{message} {_ADVICE}"


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """List the non-finite tensors by name, with one synchronisation for all."""
    named = {name: value.detach() for name, value in tensors.items() if value.is_floating_point() and value.numel()}
    if not named:
        return []
    # A NaN or infinity makes the sum non-finite; so do values large enough to overflow it, which are as useless.
    sums = torch.stack([value.sum(dtype=torch.float32) for value in named.values()])
    return [name for name, finite in zip(named, sums.isfinite().tolist(), strict=True) if not finite]


def _place(step: _Step) -> str:
    images = f"images {', '.join(step.files)}" if step.files else "images without files"
    return f"epoch {step.epoch}, batch {step.batch_idx} ({images})"
