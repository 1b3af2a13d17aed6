"""Random states in checkpoints, so that a resumed training equals an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

RandomStates = dict[str, Any]
_GENERATOR_STATE = "anomaly_generator_state"


def random_states() -> RandomStates:
    """Return the states of the global generators of torch (CPU, GPUs), NumPy and Python as tensors and plain data."""
    _, keys, *numpy_rest = np.random.get_state()  # noqa: NPY002 -- libraries draw from the global generator
    version, python_keys, python_rest = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [torch.tensor(np.asarray(keys, dtype=np.int64)), *numpy_rest],
        "python": [version, torch.tensor(python_keys, dtype=torch.int64), python_rest],
    }


def set_random_states(states: RandomStates) -> None:
    """Restore the result of :func:`random_states`; those of GPUs only if their number is the same."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    keys, *numpy_rest = states["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), *numpy_rest))  # noqa: NPY002
    version, python_keys, python_rest = states["python"]
    random.setstate((version, tuple(python_keys.tolist()), python_rest))


class RandomStatesInCheckpoint(Callback):
    """Save the states of the random generators in checkpoints and restore them when a fit is resumed.

    Lightning does not, so a resumed training would see its images in another order. Resuming from the end of an epoch
    is exact. Resuming from the middle of an epoch is not: a data loader cannot tell which images it has returned, so
    Lightning starts a new pass over the data and takes as many batches as the epoch had left.
    """

    def __init__(self) -> None:
        self._resumed: RandomStates | None = None

    def state_dict(self) -> RandomStates:
        """Return the current states."""
        return random_states()

    def load_state_dict(self, state_dict: RandomStates) -> None:
        """Keep the states until the fit is set up, which may draw random numbers itself."""
        self._resumed = state_dict

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Save the state of the model's generator of synthetic anomalies."""
        generator: Any = pl_module.anomaly_generator
        checkpoint[_GENERATOR_STATE] = generator.get_state()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Restore that generator; ranks after the first derive their seed from it."""
        generator: Any = pl_module.anomaly_generator
        if _GENERATOR_STATE in checkpoint:
            generator.set_state(checkpoint[_GENERATOR_STATE].cpu())
            if pl_module.global_rank > 0:
                seed = int(torch.randint(2**62, (), generator=generator)) + pl_module.global_rank
                generator.manual_seed(seed)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Restore the states right before Lightning starts the first pass over the data."""
        if self._resumed is not None:
            set_random_states(self._resumed)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states again if the checkpoint was saved before a validation."""
        if not trainer.sanity_checking:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states again if Lightning has only closed the resumed epoch.

        It then starts another pass over the data, and the first one has drawn a number that the interrupted training
        did not draw.
        """
        self.on_fit_start(trainer, pl_module)
        self._resumed = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ARG002
        """Forget the states, which are no longer needed."""
        self._resumed = None
