"""Checkpoints and pickles: the same model comes back, and an interrupted training goes on as if nothing happened."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO, Evaluator
from anomalib.models import AnomalibModule
from lightning.pytorch import seed_everything
from torch import Tensor

from anomalib_plus.training.random_states import random_states

from .conftest import Surfaces, Trained
from .epoch_history import EpochHistory
from .small_models import SmallModel, quiet_engine


def assert_same_predictions(first: AnomalibModule, second: AnomalibModule, images: Tensor) -> None:
    """Compare all outputs, bit by bit; the larger images make the pre-processors work too."""
    with torch.inference_mode():
        for expected, actual in zip(first.eval()(images), second.eval()(images), strict=True):
            assert torch.equal(expected, actual)


@pytest.fixture
def larger_images(surface_batch: ImageBatch) -> Tensor:
    return F.interpolate(surface_batch.image, (100, 80), mode="bilinear")


def test_reload_with_weights_only_gives_the_same_model(
    small_model: SmallModel, trained: Trained, larger_images: Tensor
) -> None:
    loaded = small_model.cls.load_from_checkpoint(trained.checkpoint, weights_only=True)
    assert dict(loaded.hparams) == dict(trained.model.hparams)
    assert_same_predictions(trained.model, loaded, larger_images)


def test_reload_gives_the_same_pre_processor(small_model: SmallModel, trained: Trained, larger_images: Tensor) -> None:
    """Upstream restores known transforms only; any other would come back as None, without an error."""
    original = trained.model.pre_processor
    loaded = small_model.cls.load_from_checkpoint(trained.checkpoint).pre_processor
    assert loaded.checkpoint_config() == original.checkpoint_config() != {"transform": None}
    assert torch.equal(loaded.transform(larger_images), original.transform(larger_images))
    assert torch.equal(loaded.export_transform(larger_images), original.export_transform(larger_images))


def test_checkpoint_holds_nothing_but_tensors_and_plain_data(trained: Trained) -> None:
    torch.load(trained.checkpoint, weights_only=True)  # anomalib's own loading would allow its enums as well


@pytest.mark.parametrize("copier", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy])
def test_a_trained_model_can_be_pickled_and_copied(
    trained: Trained, larger_images: Tensor, copier: Callable[[AnomalibModule], AnomalibModule]
) -> None:
    assert_same_predictions(trained.model, copier(trained.model), larger_images)


def test_a_resumed_training_ends_like_an_uninterrupted_one(
    small_model: SmallModel, surfaces: Surfaces, tmp_path: Path
) -> None:
    """Epoch count, learning rates, losses and, bit by bit, weights: so data order, optimizer and anomalies continue."""
    whole, second_half = EpochHistory(), EpochHistory()
    every_epoch = ModelCheckpoint(tmp_path / "epochs", filename="{epoch}", save_top_k=-1)
    uninterrupted = small_model.build()
    quiet_engine(max_epochs=4, callbacks=[whole, every_epoch]).fit(uninterrupted, datamodule=surfaces())
    end_of_uninterrupted = random_states()

    seed_everything(123, verbose=False)
    resumed = small_model.build()
    engine = quiet_engine(max_epochs=4, callbacks=[second_half])
    engine.fit(resumed, datamodule=surfaces(), ckpt_path=tmp_path / "epochs" / "epoch=1.ckpt")

    assert whole.epochs == [0, 1, 2, 3]
    assert second_half.epochs == [2, 3]
    assert engine.trainer.current_epoch == 4
    assert second_half.learning_rates == whole.learning_rates[2:]
    assert second_half.losses == whole.losses[2:] != []
    torch.testing.assert_close(resumed.state_dict(), uninterrupted.state_dict(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(random_states(), end_of_uninterrupted, rtol=0, atol=0)


def test_engine_tests_the_checkpoint_it_is_given(small_model: SmallModel, trained: Trained, surfaces: Surfaces) -> None:
    (metrics,) = quiet_engine().test(
        small_model.build(), datamodule=surfaces(), ckpt_path=trained.checkpoint, verbose=False
    )
    assert {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"} <= set(metrics)
    assert metrics == pytest.approx(trained.metrics, abs=1e-6)


def test_engine_validates_the_checkpoint_it_is_given(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, tmp_path: Path
) -> None:
    """Validation measures the thresholds anew: with the weights of the training's end, the same ones."""
    thresholds = dict(trained.model.post_processor.named_buffers())
    checkpoint = torch.load(trained.checkpoint, weights_only=True)
    for name, value in thresholds.items():
        checkpoint["state_dict"][f"post_processor.{name}"] = torch.full_like(value, torch.nan)
    torch.save(checkpoint, tmp_path / "without_thresholds.ckpt")

    model = small_model.build()
    quiet_engine().validate(model, datamodule=surfaces(), ckpt_path=tmp_path / "without_thresholds.ckpt", verbose=False)
    measured = dict(model.post_processor.named_buffers())
    torch.testing.assert_close(measured, thresholds, atol=1e-6, rtol=0)


def test_engine_train_goes_on_from_the_checkpoint_it_is_given(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces
) -> None:
    history = EpochHistory()
    last_epoch = torch.load(trained.checkpoint, weights_only=True)["epoch"]
    engine = quiet_engine(max_epochs=last_epoch + 2, callbacks=[history])
    engine.train(small_model.build(), datamodule=surfaces(), ckpt_path=trained.checkpoint)
    assert history.epochs == [last_epoch + 1]


@pytest.mark.parametrize("direction", ["trained with it", "loaded with it"])
def test_a_checkpoint_loads_with_any_metrics(
    small_model: SmallModel, trained: Trained, tmp_path: Path, direction: str
) -> None:
    """AUPRO keeps its limit in the checkpoint, which a model without AUPRO does not know."""
    evaluator = Evaluator(test_metrics=[AUPRO(fields=["anomaly_map", "gt_mask"])])
    checkpoint = torch.load(trained.checkpoint, weights_only=True)
    if direction == "trained with it":
        entries = {f"evaluator.{name}": value for name, value in evaluator.state_dict().items()}
        assert entries
        checkpoint["state_dict"].update(entries)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    loaded = small_model.cls.load_from_checkpoint(
        tmp_path / "model.ckpt", evaluator=True if direction == "trained with it" else evaluator
    )
    torch.testing.assert_close(loaded.model.state_dict(), trained.model.model.state_dict(), rtol=0, atol=0)


def compile_network(model: AnomalibModule) -> None:
    model.model = torch.compile(model.model)


def compile_a_part(model: AnomalibModule) -> None:
    name, part = next((name, part) for name, part in model.model.named_children() if list(part.parameters()))
    setattr(model.model, name, torch.compile(part))


@pytest.mark.parametrize("compile_", [compile_network, compile_a_part])
def test_compiled_and_plain_networks_load_each_others_checkpoints(
    small_model: SmallModel, trained: Trained, tmp_path: Path, compile_: Callable[[AnomalibModule], None]
) -> None:
    compiled, plain = small_model.build(), trained.model.state_dict()
    compile_(compiled)
    assert any("_orig_mod." in name for name in compiled.state_dict())
    compiled.load_state_dict(plain)
    saved = compiled.state_dict()
    torch.testing.assert_close([*saved.values()], [*plain.values()], rtol=0, atol=0, equal_nan=True)

    torch.save(torch.load(trained.checkpoint, weights_only=True) | {"state_dict": saved}, tmp_path / "compiled.ckpt")
    loaded = small_model.cls.load_from_checkpoint(tmp_path / "compiled.ckpt")
    torch.testing.assert_close(loaded.state_dict(), plain, rtol=0, atol=0, equal_nan=True)
    compiled.load_state_dict(saved)
