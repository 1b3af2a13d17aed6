"""Numbers stay numbers on images that divide by nothing, and a training whose loss is none stops and says where."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from anomalib_plus.layers.loss_terms import LossTerms
from difficult_images import difficult_images

from .conftest import Trained
from .small_models import SmallModel, quiet_engine

IMAGES = tuple(difficult_images(64, 64))
BARE = {"evaluator": False, "post_processor": False}


def phases(model: AnomalibModule) -> list[AnomalibModule]:
    """The model as it is in each phase of its training."""
    network = model.model
    if not hasattr(network, "enter_phase_2"):
        return [model]
    second = copy.deepcopy(model)
    second.model.enter_phase_2(torch.rand(1, 3, 64, 64))
    return [model, second]


def assert_finite(named: dict[str, Tensor | None]) -> None:
    broken = [name for name, value in named.items() if value is not None and not value.isfinite().all()]
    assert broken == []


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_training_step_on_difficult_images_has_finite_gradients(
    small_model: SmallModel, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them in one batch, and two of a kind, which batch normalisation divides by nothing."""
    images = difficult_images(64, 64)
    kinds = ("black",) if half else IMAGES
    batches = {"all": torch.stack(list(images.values())), **{name: torch.stack([images[name]] * 2) for name in kinds}}
    for phase, model in enumerate(phases(small_model.build())):
        monkeypatch.setattr(type(model), "log", lambda *_, **__: None)
        monkeypatch.setattr(type(model), "log_dict", lambda *_, **__: None)
        model.train()
        for name, batch in batches.items():
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                loss = model.training_step(ImageBatch(image=batch), 1)
            loss.backward()
            gradients = {f"{name} {phase} {key}": value.grad for key, value in model.named_parameters()}
            assert any(value is not None for value in gradients.values())
            assert_finite({f"{name} {phase}": loss.detach(), **gradients})
        assert_finite({key: value for key, value in model.model.state_dict().items() if value.is_floating_point()})


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_scores_of_difficult_images_are_finite_and_in_the_unit_interval(trained: Trained, half: bool) -> None:
    """Outside [0, 1], torchmetrics would squash every batch by itself; NaN would count as a perfect ranking."""
    images = torch.stack(list(difficult_images(64, 64).values()))
    for network in (trained.model.model, trained.model):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            output = network.eval()(images)
        for values in (output.pred_score, output.anomaly_map):
            for name, image_values in zip(IMAGES, values, strict=True):
                assert torch.isfinite(image_values).all(), name
                assert 0 <= image_values.min() <= image_values.max() <= 1, name


class BreakWeights(Callback):
    """Makes a weight NaN after a step, as a gradient that overflows does."""

    def __init__(self, epoch: int, batch_idx: int) -> None:
        self.when = (epoch, batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: AnomalibModule, outputs: Any, batch: ImageBatch, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.when:
            with torch.no_grad():
                for parameter in pl_module.model.parameters():
                    if parameter.requires_grad:
                        parameter.fill_(torch.nan)


def test_a_loss_that_is_no_number_stops_the_training_and_names_term_and_images(
    small_model: SmallModel, ordered_loader: Callable[[int], DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model.build(**BARE)
    original, calls, terms = model.loss.forward, [], []

    def second_is_none(*args: Any, **kwargs: Any) -> LossTerms:
        loss = original(*args, **kwargs)
        calls.append(1)
        if len(calls) != 2:
            return loss
        terms.extend(loss.terms)
        return LossTerms(loss.total * torch.nan, loss.terms | {terms[-1]: loss.terms[terms[-1]] * torch.nan})

    monkeypatch.setattr(model.loss, "forward", second_is_none)
    with pytest.raises(FloatingPointError) as stop:
        quiet_engine(max_epochs=2).fit(model, ordered_loader(2))
    message = str(stop.value)
    assert message.startswith(f"{small_model.name}: the loss is not finite: {terms[-1]}=nan, total=nan")
    assert "in epoch 0, batch 1 (images " in message
    images = [f"{index:03d}.png" for index in range(6)]
    assert [image for image in images if f"good/{image}" in message] == images[2:4]
    assert_finite(dict(model.named_parameters()))


def test_weights_that_are_no_numbers_stop_the_training_and_leave_the_checkpoint_alone(
    small_model: SmallModel, ordered_loader: Callable[[int], DataLoader]
) -> None:
    """The loss shows them one step later, so both batches are named."""
    engine = quiet_engine(max_epochs=2, callbacks=[BreakWeights(1, 0)])
    with pytest.raises(FloatingPointError, match=r"in epoch 1, batch 1 .*step before was epoch 1, batch 0 .*002\.png"):
        engine.fit(small_model.build(**BARE), ordered_loader(3))
    content = torch.load(engine.best_model_path, weights_only=True)
    assert content["epoch"] == 0
    assert_finite({name: value for name, value in content["state_dict"].items() if name.startswith("model.")})


def test_weights_that_no_loss_has_seen_do_not_get_into_a_checkpoint(
    small_model: SmallModel, ordered_loader: Callable[[int], DataLoader]
) -> None:
    engine = quiet_engine(max_epochs=2, limit_val_batches=0, callbacks=[BreakWeights(1, 1)])
    with pytest.raises(FloatingPointError, match=r"weights are NaN or infinite, .* checkpoint is not written"):
        engine.fit(small_model.build(**BARE), ordered_loader(3))
    assert torch.load(engine.best_model_path, weights_only=True)["epoch"] == 0
    assert [path.name for path in Path(engine.best_model_path).parent.iterdir()] == ["model.ckpt"]
