"""Stop a training whose loss is no longer a number, and say which batch it was."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomalib_plus.layers.loss_terms import LossTerms


class _Step(NamedTuple):
    epoch: int
    batch_idx: int
    files: tuple[str, ...]
    values: dict[str, Tensor]


class LossWatch:
    """Keeps the loss terms of the last steps until it looks at them.

    On a CPU it looks at every step before its gradients are computed, so the weights stay what they were. On a GPU a
    look waits for all that was asked of it, so there it is one look for many steps, and one before a validation,
    before a checkpoint is written and at the end of an epoch.

    Args:
        model_name: For messages.
        network: What is trained.
        steps_between_looks: Where the loss is not on a CPU.
    """

    def __init__(self, model_name: str, network: nn.Module, steps_between_looks: int = 50) -> None:
        self.steps_between_looks = steps_between_looks
        self.model_name = model_name
        self.network = network
        self._batch: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        self._steps: list[_Step] = []
        self._last_good: _Step | None = None

    def begin(self, epoch: int, batch_idx: int, image_paths: Sequence[str] | None) -> None:
        """Say which batch the next loss is of."""
        self._batch = (epoch, batch_idx, tuple(image_paths or ()))

    def record(self, loss: LossTerms) -> None:
        """Take the terms of a step; see :meth:`check`."""
        values = {name: value.detach() for name, value in loss.terms.items()} | {"total": loss.total.detach()}
        self._steps.append(_Step(*self._batch, values))
        if len(self._steps) >= (1 if loss.total.device.type == "cpu" else self.steps_between_looks):
            self.check()

    def check(self) -> None:
        """Look at all steps taken since the last look.

        Raises:
            FloatingPointError: If the loss of one of them is NaN or infinite.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([step.values["total"] for step in steps]).isfinite().tolist()
        if not all(finite):
            first = finite.index(False)
            raise FloatingPointError(self._describe(steps[first], steps[first - 1] if first else self._last_good))
        self._last_good = steps[-1]

    def check_weights(self) -> None:
        """Look at all weights and buffers at once.

        Raises:
            FloatingPointError: If a value is NaN or infinite.
        """
        names = _not_finite(self.network.state_dict())
        if names:
            msg = (
                f"{self.model_name}: {len(names)} weights are NaN or infinite, {names[0]} for one, so this checkpoint "
                f"is not written; earlier ones are good. {_ADVICE}"
            )
            raise FloatingPointError(msg)

    def _describe(self, step: _Step, before: _Step | None) -> str:
        values = {name: float(value) for name, value in step.values.items()}
        bad = ", ".join(f"{name}={value}" for name, value in values.items() if not math.isfinite(value))
        good = ", ".join(f"{name}={value:.4g}" for name, value in values.items() if math.isfinite(value))
        message = f"{self.model_name}: the loss is no number: {bad}{good and f' ({good})'}, in {_place(step)}."
        # Buffers do not count: a batch that is no number is in the statistics of batch normalisation by now.
        if before is not None and _not_finite(dict(self.network.named_parameters())):
            message += f" The weights are NaN or infinite as well; the step before was {_place(before)}."
        return f"{message} {_ADVICE}"


_ADVICE = (
    "Look at the images; go on from the last checkpoint in full precision (--trainer.precision=32), or begin anew with "
    "a lower learning_rate, which a resumed optimizer would not take over."
)


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinity; one look for all of them."""
    named = {name: value.detach() for name, value in tensors.items() if value.is_floating_point() and value.numel()}
    if not named:
        return []
    # One NaN or infinity makes the sum such a one; values so large that their sum overflows are as hopeless.
    sums = torch.stack([value.sum(dtype=torch.float32) for value in named.values()])
    return [name for name, finite in zip(named, sums.isfinite().tolist(), strict=True) if not finite]


def _place(step: _Step) -> str:
    images = f"images {', '.join(step.files)}" if step.files else "images without files"
    return f"epoch {step.epoch}, batch {step.batch_idx} ({images})"
