"""Trains a small model with two processes on the CPU, tests its checkpoint, and prints what both processes saw.

``python -m contract.two_processes MODEL ROOT`` in the folder ``tests``. An interpreter of its own, because a fork of
one that has run other models may wait for their threads for ever.
"""

import json
import sys
from typing import Any

import torch
from anomalib.data import MVTecAD
from lightning.pytorch import Callback

from contract.small_models import SmallModel, quiet_engine


class Observer(Callback):
    """Gathers losses and weights of all processes."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.facts: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean").item())

    def on_train_end(self, trainer: Any, module: Any) -> None:
        weights = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
        first, second = trainer.strategy.all_gather(weights)
        facts = {
            "largest difference": (first - second).abs().max().item(),
            "losses": trainer.strategy.all_gather(torch.tensor(self.losses)).tolist(),
            "phase": getattr(module.model, "phase", None),
        }
        if trainer.is_global_zero:
            print("FACTS", json.dumps(facts), flush=True)  # from the process that trained: the caller's was forked


def main(name: str, root: str) -> None:
    small_model = SmallModel.named(name)
    data = {"root": root, "category": "surface", "num_workers": 0, "train_batch_size": 2}
    model = small_model.build()
    # A model of two phases says that parts of it are idle; the others must not have idle parameters.
    strategy = "ddp_fork_find_unused_parameters_true" if hasattr(model.model, "phase") else "ddp_fork"
    engine = quiet_engine(max_epochs=2, devices=2, strategy=strategy, callbacks=[Observer()])
    engine.fit(model, datamodule=MVTecAD(**data))
    (metrics,) = quiet_engine(devices=2, strategy="ddp_fork").test(
        small_model.build(), datamodule=MVTecAD(**data), ckpt_path=engine.best_model_path, verbose=False
    )
    print("RESULT", json.dumps({"checkpoint": engine.best_model_path, "metrics": metrics}))


if __name__ == "__main__":
    main(*sys.argv[1:])
