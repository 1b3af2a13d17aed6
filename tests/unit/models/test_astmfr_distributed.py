"""Two processes on one machine's CPU (gloo), or several small batches, train as one process with the whole batch does.

What can be equal: with masks off and without batch normalisation in the student. Each process normalises its own part
of a batch (PyTorch's synchronised batch normalisation needs a GPU) and draws its own masks.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback, Trainer

from anomalib_plus import AstMFR

TOLERANCE = 1e-4


@pytest.fixture
def importable_by_spawned_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They look for this module under the name that pytest gave it, below the folder that holds the tests."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


class GlobalLosses(Callback):
    """Writes the loss of every step, averaged over the processes, into a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        loss = trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")
        self.losses.append(loss.item())
        if trainer.is_global_zero:
            self.file.write_text(json.dumps(self.losses))


def train(root: Path, folder: Path, devices: int, steps: int = 4, accumulate: int = 1, **arguments: Any) -> list[float]:
    torch.manual_seed(0)
    model = AstMFR(
        teacher="test_resnet",
        pre_trained=False,
        pre_processor=AstMFR.configure_pre_processor((64, 64)),
        evaluator=False,
        visualizer=False,
        **arguments,
    )
    file = folder / f"losses{devices}.json"
    engine = Engine(
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        accelerator="cpu",
        devices=devices,
        # Not forked: a process that has run other models may leave its fork waiting for their threads for ever.
        strategy="ddp_spawn" if devices > 1 else "auto",
        default_root_dir=folder,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[GlobalLosses(file)],
    )
    # All six images in each step: in one batch, three by each process, or two after another.
    engine.fit(model, datamodule=MVTecAD(root, "surface", train_batch_size=6 // devices // accumulate, num_workers=0))
    return json.loads(file.read_text())


@pytest.mark.usefixtures("importable_by_spawned_processes")
def test_two_processes_get_the_losses_of_one(mvtec_layout: Path, tmp_path: Path) -> None:
    arguments = {"student": "test_nfnet", "mask_rate": 0.0}
    one, two = (train(mvtec_layout, tmp_path, devices, **arguments) for devices in (1, 2))
    assert len(one) == 4
    assert one[3] < one[0]
    assert two == pytest.approx(one, rel=TOLERANCE)


def test_accumulated_batches_get_the_losses_of_one(mvtec_layout: Path, tmp_path: Path) -> None:
    arguments = {"student": "test_nfnet", "mask_rate": 0.0}
    whole, parts = (train(mvtec_layout, tmp_path, 1, accumulate=count, **arguments) for count in (1, 3))
    assert len(parts) == 12  # each divided by three, as Lightning does
    assert torch.tensor(parts).view(4, 3).sum(dim=1).tolist() == pytest.approx(whole, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.usefixtures("importable_by_spawned_processes")
def test_masks_batch_normalisation_and_levels_without_a_block_train_distributed(
    mvtec_layout: Path, tmp_path: Path
) -> None:
    """Without ``find_unused_parameters``: every trained parameter is in the loss."""
    losses = train(mvtec_layout, tmp_path, 2, steps=2, student="test_efficientnet", regenerate=(True, False, True))
    assert len(losses) == 2
    assert all(0 < loss < 8 for loss in losses)
