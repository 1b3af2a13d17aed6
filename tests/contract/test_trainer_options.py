"""What Lightning's trainer offers besides: short runs, accumulation, memory layouts."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from .conftest import Surfaces
from .small_models import SmallModel, quiet_engine

BARE = {"evaluator": False, "post_processor": False}
"""Validation would take most of the time of these tests."""


def trained_by(small_model: SmallModel, surfaces: Surfaces, **options: Any) -> tuple[AnomalibModule, Trainer]:
    model = small_model.build(**BARE)
    before = copy.deepcopy(model.state_dict())
    engine = quiet_engine(**options)
    engine.fit(model, datamodule=surfaces())
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert moved
    assert all(value.isfinite().all() for value in model.parameters())
    return model, engine.trainer


def test_fast_dev_run_trains_one_batch_and_writes_nothing(small_model: SmallModel, surfaces: Surfaces) -> None:
    _, trainer = trained_by(small_model, surfaces, fast_dev_run=True)
    assert trainer.global_step == 1
    assert not list(Path().rglob("*.ckpt"))


def test_deterministic_algorithms_train(
    small_model: SmallModel, surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Lightning sets it, for good
    try:
        trained_by(small_model, surfaces, fast_dev_run=True, deterministic=True)
    finally:
        torch.use_deterministic_algorithms(False)


def test_overfit_batches_trains_on_the_same_ones(small_model: SmallModel, surfaces: Surfaces) -> None:
    seen: list[list[str]] = []

    class Names(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch.image_path)

    trained_by(small_model, surfaces, overfit_batches=1, max_epochs=2, limit_val_batches=0, callbacks=[Names()])
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_accumulated_gradients_move_the_weights_once_for_several_batches(
    small_model: SmallModel, surfaces: Surfaces
) -> None:
    """Three batches: a step after two, and one for the rest."""
    _, trainer = trained_by(small_model, surfaces, max_epochs=1, limit_val_batches=0, accumulate_grad_batches=2)
    assert trainer.global_step == 2


def test_memory_layout_of_images_and_weights_does_not_matter(small_model: SmallModel) -> None:
    torch.manual_seed(0)
    model, images = small_model.build().model.eval(), torch.rand(2, 3, 64, 64)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        if parameter.ndim == 4:
            layout = torch.contiguous_format if parameter.is_contiguous(memory_format=torch.channels_last) else None
            parameter.data = parameter.data.contiguous(memory_format=layout or torch.channels_last)
    with torch.inference_mode():
        expected = model(images)
        for network in (model, other):
            output = network(images.to(memory_format=torch.channels_last))
            torch.testing.assert_close(output.pred_score, expected.pred_score, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(output.anomaly_map, expected.anomaly_map, atol=1e-5, rtol=1e-4)


def test_channels_last_batches_train(small_model: SmallModel, ordered_loader: Callable[[int], DataLoader]) -> None:
    """Losses as with the usual layout: the numbers are the same, the order of their sums is not."""

    class Losses(Callback):
        def __init__(self, layout: torch.memory_format) -> None:
            self.layout, self.values = layout, []

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            batch.image.data = batch.image.contiguous(memory_format=self.layout)

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
            self.values.append(outputs["loss"].item())

    losses = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        callback = Losses(layout)
        engine = quiet_engine(max_epochs=1, limit_train_batches=2, callbacks=[callback])
        engine.fit(small_model.build(**BARE), ordered_loader(2))
        losses.append(callback.values)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
