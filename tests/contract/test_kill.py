"""A training that is killed and resumed ends like one that was not: real processes, real SIGKILL."""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import MVTecAD
from lightning.pytorch import Callback, seed_everything

from anomalib_plus import models

from .small_models import SmallModel, quiet_engine

EPOCHS, STEPS_PER_EPOCH = 6, 3

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork and SIGKILL")


class ReportSteps(Callback):
    """Tells another process about every step, at its start: what comes after it is what is killed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.connection.send(trainer.global_step)


def train(
    connection: Connection, name: str, root: Path, folder: Path, options: dict[str, Any], checkpoint: Any
) -> None:
    """Run in a process of its own; the seed is another one in a resumed training, which must not matter."""
    torch.set_num_threads(1)
    seed_everything(1 if checkpoint is None else 2, verbose=False)
    datamodule = MVTecAD(root, "surface", num_workers=0, train_batch_size=2, eval_batch_size=4)
    engine = quiet_engine(max_epochs=EPOCHS, default_root_dir=folder, callbacks=[ReportSteps(connection)], **options)
    engine.fit(SmallModel.named(name).build(evaluator=False), datamodule=datamodule, ckpt_path=checkpoint)
    connection.send("end")


Start = Callable[..., tuple[Any, Connection]]


@pytest.fixture
def start(mvtec_layout: Path) -> Start:
    """Start a training; gives the process and what it reports through."""
    context = multiprocessing.get_context("fork")  # the libraries are imported once

    def start(name: str, folder: Path, options: dict[str, Any], checkpoint: Path | None = None) -> Any:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=train, args=(there, name, mvtec_layout, folder, options, checkpoint))
        process.start()
        there.close()
        return process, here

    return start


def finish(process: Any, reports: Connection, folder: Path) -> dict[str, Any]:
    """Wait for the end of a training; give its last checkpoint."""
    while reports.recv() != "end":
        pass
    process.join(60)
    assert process.exitcode == 0
    return torch.load(checkpoint_in(folder), weights_only=True)


def checkpoint_in(folder: Path) -> Path:
    (file,) = folder.rglob("model.ckpt")
    return file


def assert_same_training(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Bit by bit: weights, moments of the optimizer, learning rates, all random generators and the epoch."""
    parts = ["state_dict", "optimizer_states", "lr_schedulers", "anomaly_generator_state", "epoch", "global_step"]
    for part in parts:
        torch.testing.assert_close(actual[part], expected[part], rtol=0, atol=0, equal_nan=True)
    states = (content["callbacks"]["RandomStatesInCheckpoint"] for content in (actual, expected))
    torch.testing.assert_close(*states, rtol=0, atol=0)


def kill_and_resume(
    start: Start, name: str, folder: Path, options: dict[str, Any], last_step: int, delay: float
) -> Any:
    """Kill a training ``delay`` seconds after a step, resume it from the one checkpoint that anomalib keeps."""
    process, reports = start(name, folder / "killed", options)
    while reports.recv() != last_step:
        pass
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    checkpoint = checkpoint_in(folder / "killed")
    return finish(*start(name, folder / "resumed", options, checkpoint), folder / "resumed")


def test_a_killed_training_goes_on_as_if_nothing_had_happened(start: Start, tmp_path: Path) -> None:
    """In RbAE's second phase, with its reference and the optimizer's new start."""
    expected = finish(*start("RbAE", tmp_path / "whole", {}), tmp_path / "whole")
    assert_same_training(kill_and_resume(start, "RbAE", tmp_path, {}, 13, 0.01), expected)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2], ids=["validation each epoch", "each second epoch"])
@pytest.mark.parametrize("name", models.__all__)
def test_trainings_killed_at_random_go_on_as_if_nothing_had_happened(
    start: Start, tmp_path: Path, name: str, every: int
) -> None:
    """Ten times: anywhere after the first checkpoint, so also while one is written."""
    options = {"check_val_every_n_epoch": every}
    expected = finish(*start(name, tmp_path / "whole", options), tmp_path / "whole")
    rng = random.Random(f"{name} {every}")
    for trial in range(10):
        step = rng.randint(STEPS_PER_EPOCH * every + 1, EPOCHS * STEPS_PER_EPOCH - 1)
        resumed = kill_and_resume(start, name, tmp_path / str(trial), options, step, rng.uniform(0, 0.1))
        assert_same_training(resumed, expected)
