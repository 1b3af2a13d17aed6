"""Synthetic anomalies are exchanged by argument and on the command line, and are read from checkpoints of 0.1."""

import math
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from lightning.pytorch import Callback

from anomalib_plus import models
from anomalib_plus.training.checkpoint_files import CheckpointError
from anomalib_plus.transforms import Augmenter, DeletePaste, PerlinAnomaly, SuperpixelFilling

from .conftest import Surfaces, Trained
from .epoch_history import EpochHistory
from .small_models import SmallModel, quiet_engine

EXCHANGED: dict[str, Augmenter] = {
    "RamFAE": PerlinAnomaly(opacity=0.5, perlin_log2_scales=(1, 3)),
    "FEAR": SuperpixelFilling(n_segments=64, n_filled=8),
    "TSDN": DeletePaste(area_ratio=(0.1, 0.2)),
    "RbAE": SuperpixelFilling(n_segments=64, n_filled=8),
}
"""Another model's transform for every model that trains on synthetic anomalies."""
WITH_AUGMENTER = [name for name in models.__all__ if name in EXCHANGED]

pytestmark = pytest.mark.parametrize("small_model", WITH_AUGMENTER, indirect=True, scope="package")


class Stripe(Augmenter):
    """A user's own anomaly with no more than the interface asks for: one bright row."""

    def __init__(self, row: int = 20) -> None:
        super().__init__()
        self.row = row

    def forward(self, images: torch.Tensor, generator: torch.Generator | None = None) -> tuple[torch.Tensor, ...]:
        image, mask = images.clone(), torch.zeros_like(images[:, :1])
        image[..., self.row, :], mask[..., self.row, :] = 1, 1
        return image, mask


class CacheWatch(Callback):
    """Notes how many label maps were made before the first batch."""

    before = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.before = pl_module.augmenter.cache.misses


def with_old_names(arguments: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as version 0.1 wrote them: the table backwards, with every argument in one level."""
    augmenter = arguments["augmenter"]
    inner = augmenter["init_args"] if augmenter else {}
    values = {**arguments, **{f"augmenter.{name}": value for name, value in inner.items()}}
    if inner.get("textures"):
        values["augmenter.textures"] = inner["textures"]["folder"]
    old = {}
    for name, entry in table.items():
        new, translation = entry if isinstance(entry, tuple) else (entry, {})
        if new != "augmenter" and new in values:
            old[name] = next((before for before, now in translation.items() if now == values[new]), values[new])
    switches = {name: bool(augmenter) for name, new in table.items() if new == "augmenter"}
    new_names = {entry[0] if isinstance(entry, tuple) else entry for entry in table.values()}
    kept = {name: value for name, value in arguments.items() if name not in {*new_names, "augmenter"}}
    return {**kept, **old, **switches}


def old_checkpoint(content: dict[str, Any], cls: type, file: Path = Path("old.ckpt")) -> Path:
    old = with_old_names(content["hyper_parameters"], cls.renamed_arguments)
    assert set(cls.renamed_arguments) <= set(old)
    origin = {"model": cls.__name__, "version": "0.1.0"}
    torch.save({**content, "hyper_parameters": old, "anomalib_plus": origin}, file)
    return file


def test_every_model_with_an_augmenter_is_here(small_model: SmallModel) -> None:
    assert "augmenter" in small_model.build().hparams
    takes_one = [name for name in models.__all__ if "augmenter" in signature(getattr(models, name)).parameters]
    assert takes_one == WITH_AUGMENTER


@pytest.mark.parametrize("whose", ["another model's", "the user's own"])
def test_another_transform_trains_and_stands_in_the_checkpoint(
    small_model: SmallModel, surfaces: Surfaces, whose: str
) -> None:
    augmenter, history = EXCHANGED[small_model.name] if whose == "another model's" else Stripe(7), EpochHistory()
    model = small_model.build(augmenter=augmenter)
    assert model.augmenter is augmenter
    before = {name: value.clone() for name, value in model.model.named_parameters()}
    engine = quiet_engine(max_epochs=1, limit_train_batches=2, limit_val_batches=1, callbacks=[history])
    engine.fit(model, datamodule=surfaces())
    assert all(math.isfinite(loss) for loss in history.losses)
    assert any(not torch.equal(value, before[name]) for name, value in model.model.named_parameters())

    loaded = small_model.cls.load_from_checkpoint(engine.best_model_path, weights_only=True)
    assert loaded.hparams["augmenter"] == augmenter.config()
    assert type(loaded.augmenter) is type(augmenter)
    torch.testing.assert_close(loaded.model.state_dict(), model.model.state_dict(), rtol=0, atol=0)
    (metrics,) = quiet_engine().test(
        small_model.build(augmenter=augmenter), datamodule=surfaces(), ckpt_path=engine.best_model_path, verbose=False
    )
    assert 0 <= metrics["image_AUROC"] <= 1


def test_superpixels_are_made_once_before_the_first_epoch(small_model: SmallModel, surfaces: Surfaces) -> None:
    watch = CacheWatch()
    model = small_model.build(augmenter=SuperpixelFilling(n_segments=64, n_filled=8))
    quiet_engine(max_epochs=2, limit_val_batches=0, callbacks=[watch]).fit(model, datamodule=surfaces())
    assert watch.before == 6
    assert model.augmenter.cache.misses == 6
    assert "Resize(size=[64, 64]" in model.augmenter.preparation


def test_the_command_line_takes_another_transform(small_model: SmallModel, mvtec_layout: Path) -> None:
    options = [option for option in small_model.command_line if not option.startswith("--model.augmenter")]
    command = AnomalibCLI(
        [
            "fit",
            *options,
            *("--model.visualizer=false", "--model.augmenter", "SuperpixelFilling", "--model.augmenter.n_filled", "8"),
            *("--data=MVTecAD", f"--data.root={mvtec_layout}", "--data.category=surface", "--data.num_workers=0"),
            *("--data.train_batch_size=2", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"),
        ]
    )
    assert type(command.model.augmenter) is SuperpixelFilling
    assert command.model.augmenter.n_filled == 8
    (weights,) = Path("results").rglob("v0/weights/lightning/model.ckpt")
    saved = torch.load(weights, weights_only=True)["hyper_parameters"]["augmenter"]
    assert saved == SuperpixelFilling(n_filled=8).config()


def test_a_checkpoint_cannot_name_a_class_that_is_no_transform(small_model: SmallModel, trained: Trained) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    content["hyper_parameters"]["augmenter"] = {"class_path": "subprocess.Popen", "init_args": {"args": "false"}}
    torch.save(content, "model.ckpt")
    with pytest.raises(ValueError, match=r"There is no augmenter 'subprocess.Popen'"):
        small_model.cls.load_from_checkpoint("model.ckpt")


def test_a_checkpoint_of_version_0_1_gives_the_same_model(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, images: torch.Tensor
) -> None:
    file = old_checkpoint(torch.load(trained.checkpoint, weights_only=True), small_model.cls)
    loaded = small_model.cls.load_from_checkpoint(file, weights_only=True)
    assert dict(loaded.hparams) == dict(trained.model.hparams)
    with torch.inference_mode():
        for expected, actual in zip(trained.model(images), loaded.eval()(images), strict=True):
            assert torch.equal(expected, actual)
    overridden = small_model.cls.load_from_checkpoint(file, augmenter=EXCHANGED[small_model.name])
    assert type(overridden.augmenter) is type(EXCHANGED[small_model.name])

    (metrics,) = quiet_engine().test(small_model.build(), datamodule=surfaces(), ckpt_path=file, verbose=False)
    assert metrics == pytest.approx(trained.metrics, abs=1e-6)
    predictions = quiet_engine().predict(small_model.build(), datamodule=surfaces(), ckpt_path=file)
    assert sum(len(batch.pred_score) for batch in predictions) == 6


def test_a_checkpoint_of_version_0_1_keeps_what_its_user_chose(small_model: SmallModel, trained: Trained) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    inner = content["hyper_parameters"]["augmenter"]["init_args"]
    content["hyper_parameters"]["augmenter"]["init_args"] = {**inner, "probability": 0.25}
    if "textures" in inner:
        content["hyper_parameters"]["augmenter"]["init_args"]["textures"] = {"folder": "textures"}
    loaded = small_model.cls.load_from_checkpoint(old_checkpoint(content, small_model.cls))
    assert loaded.augmenter.probability == 0.25
    if "textures" in inner:
        assert str(loaded.augmenter.textures.folder) == "textures"
    for name, value in small_model.arguments.items():
        assert name == "augmenter" or loaded.hparams[name] == value


def test_a_misfit_of_version_0_1_is_told_in_the_present_names(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces
) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    weights = content["state_dict"]
    name = next(name for name, value in weights.items() if name.startswith("model.") and value.ndim == 4)
    content["state_dict"] = {**weights, name: weights[name].repeat(2, 1, 1, 1)}
    content["hyper_parameters"]["augmenter"]["init_args"]["probability"] = 0.25
    file = old_checkpoint(content, small_model.cls)
    with pytest.raises(CheckpointError, match=r"made with augmenter=.*'probability': 0\.25.* \(here .*build"):
        quiet_engine().test(small_model.build(), datamodule=surfaces(), ckpt_path=file, verbose=False)
