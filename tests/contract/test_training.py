"""Training: it learns, repeats under a seed, survives odd batches and half precision, and obeys its user."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.data.utils import read_image
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize

from anomalib_plus.training.kept_images import KeepImages

from .conftest import Surfaces
from .epoch_history import EpochHistory
from .small_models import SmallModel, quiet_engine

Weights = dict[str, torch.Tensor]


def train_with_seed(small_model: SmallModel, datamodule: MVTecAD, seed: int) -> Weights:
    seed_everything(seed, verbose=False)
    model = small_model.build()
    quiet_engine(max_epochs=2).fit(model, datamodule=datamodule)
    return model.state_dict()


def changed(model: AnomalibModule, before: Weights) -> list[str]:
    """Names of the parameters that are no longer what they were."""
    return [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]


def assert_finite(model: AnomalibModule) -> None:
    for name, value in model.state_dict().items():
        assert torch.isfinite(value).all(), name


def test_loss_falls_on_a_repeated_batch(small_model: SmallModel, ordered_loader: Callable[[int], DataLoader]) -> None:
    history = EpochHistory()
    quiet_engine(max_epochs=30, limit_train_batches=1, callbacks=[history]).fit(small_model.build(), ordered_loader(4))
    assert len(history.losses) == 30
    assert sum(history.losses[-5:]) < 0.8 * sum(history.losses[:5])


def test_a_seed_repeats_a_training_and_another_seed_does_not(
    small_model: SmallModel, surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "anomalib.data.datasets.base.image.read_image",
        lambda path, as_tensor: read.append(str(path)) or read_image(path, as_tensor=as_tensor),
    )
    first, other = (train_with_seed(small_model, surfaces(), seed) for seed in (1, 2))
    assert sum("/train/" in path for path in read) == 2 * 6, "each training image once in a training"
    monkeypatch.setattr(KeepImages, "setup", lambda *_, **__: None)
    second = train_with_seed(small_model, surfaces(), 1)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert [name for name in first if not torch.equal(first[name], other[name])] != []


@pytest.mark.parametrize("batch_size", [1, 5], ids=["batches of one", "an incomplete last batch of one"])
def test_small_batches_train(small_model: SmallModel, surfaces: Surfaces, batch_size: int) -> None:
    model = small_model.build()
    kinds = set()
    model.model.register_forward_pre_hook(lambda _, inputs: kinds.add(type(inputs[0])))
    before = copy.deepcopy(model.state_dict())
    engine = quiet_engine(max_epochs=1)
    engine.fit(model, datamodule=surfaces(train_batch_size=batch_size))
    assert kinds == {torch.Tensor}  # not torchvision's Image, on which a compiled network does not train
    assert torch.isfinite(engine.trainer.callback_metrics["train_loss"])
    assert_finite(model)
    assert changed(model, before)


def test_frozen_parts_do_not_move(small_model: SmallModel, surfaces: Surfaces) -> None:
    """Batch normalisation follows its input unless it is in evaluation mode, frozen parameters or not."""
    model = small_model.build()
    before = copy.deepcopy(model.state_dict())
    frozen = [
        f"{name}."
        for name, part in model.model.named_modules(prefix="model")
        if (parameters := list(part.parameters())) and not any(p.requires_grad for p in parameters)
    ]
    quiet_engine(max_epochs=1).fit(model, datamodule=surfaces())
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert [name for name in moved if name.startswith(tuple(frozen))] == []


def test_bfloat16_autocast_trains_and_scores_finitely(
    small_model: SmallModel, surfaces: Surfaces, images: torch.Tensor
) -> None:
    model = small_model.build()
    before = copy.deepcopy(model.state_dict())
    engine = quiet_engine(max_epochs=1, precision="bf16-mixed")
    engine.fit(model, datamodule=surfaces())
    assert torch.isfinite(engine.trainer.callback_metrics["train_loss"])
    assert_finite(model)
    assert changed(model, before)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = model.model.eval()(images)
    for values in (output.pred_score, output.anomaly_map):
        assert values.dtype == torch.float32  # 8 bits of mantissa would tie most scores
        assert torch.isfinite(values).all()


def test_training_step_leaves_the_batch_alone(
    small_model: SmallModel, surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model.build()
    original_step = model.training_step
    intact = []

    def watched_step(batch: ImageBatch, *args: Any, **kwargs: Any) -> Any:
        image, mask = batch.image.clone(), batch.gt_mask.clone()
        result = original_step(batch, *args, **kwargs)
        intact.append(torch.equal(batch.image, image) and torch.equal(batch.gt_mask, mask))
        return result

    monkeypatch.setattr(model, "training_step", watched_step)
    quiet_engine(max_epochs=1).fit(model, datamodule=surfaces())
    assert intact == [True] * 3


@pytest.mark.parametrize(
    ("limit", "measure"),
    [({"max_epochs": 2}, "current_epoch"), ({"max_steps": 4, "max_epochs": -1}, "global_step")],
    ids=["epochs", "steps"],
)
def test_the_trainer_runs_as_long_as_its_user_says(
    small_model: SmallModel, surfaces: Surfaces, limit: dict[str, int], measure: str
) -> None:
    asked = {**limit, "limit_val_batches": 1, "check_val_every_n_epoch": 2}
    engine = quiet_engine(**asked)
    engine.fit(small_model.build(), datamodule=surfaces())
    assert {name: getattr(engine.trainer, name) for name in asked} == asked
    assert getattr(engine.trainer, measure) == max(limit.values())


def test_the_user_chooses_the_pre_processor(small_model: SmallModel, surfaces: Surfaces) -> None:
    wide = PreProcessor(transform=Resize((64, 128)))
    model = small_model.build(pre_processor=wide)
    assert model.pre_processor is wide
    engine = quiet_engine(max_epochs=1, limit_train_batches=1)
    engine.fit(model, datamodule=surfaces())
    assert {batch.anomaly_map.shape[-2:] for batch in engine.predict(model, datamodule=surfaces())} == {(64, 128)}


def test_a_model_works_without_a_pre_processor(small_model: SmallModel, surfaces: Surfaces) -> None:
    model = small_model.build(pre_processor=False)
    engine = quiet_engine(max_epochs=1, limit_train_batches=1)
    engine.fit(model, datamodule=surfaces())
    loaded = small_model.cls.load_from_checkpoint(engine.best_model_path)
    assert model.pre_processor is None
    assert loaded.pre_processor is None
