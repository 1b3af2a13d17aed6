"""Models on tiles: every model of ours trains in ``Tiled``; one of them and a memory bank do all the rest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import openvino
import pytest
import torch
import yaml
from anomalib.callbacks import ModelCheckpoint
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.deploy import ExportType
from anomalib.models import AnomalibModule, Ganomaly, Padim, get_model, list_models
from anomalib.post_processing import PostProcessor
from torchvision.transforms.v2 import Normalize

from anomalib_plus import RamFAE, Tiled
from anomalib_plus.tiling.wrapped import build_model
from anomalib_plus.training.finite_loss import FiniteLoss

from .comparison import assert_same_output
from .conftest import Surfaces
from .epoch_history import EpochHistory
from .small_models import SMALL, SmallModel, quiet_engine
from .test_checkpoint import assert_same_predictions

TILES: dict[str, Any] = {"tile": [48, 48], "tile_batch": 4}
INNER = {
    "RamFAE": {"class_path": "anomalib_plus.RamFAE", "init_args": {**SMALL["RamFAE"], "widths": [4, 8], "mffe": False}},
    "Padim": {
        "class_path": "anomalib.models.Padim",
        "init_args": {"backbone": "test_resnet", "layers": ["layer1"], "pre_trained": False, "n_features": 8},
    },
}


class Trained(NamedTuple):
    """A wrapped model after a training by the command, and its checkpoint."""

    name: str
    config: Path
    checkpoint: Path
    model: Tiled


@pytest.fixture(scope="module", params=INNER)
def trained(request: pytest.FixtureRequest, mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """From YAML, with the ``fit`` command."""
    folder = tmp_path_factory.mktemp("tiled")
    config = folder / "tiled.yaml"
    data = {"root": str(mvtec_layout), "category": "surface", "num_workers": 0, "train_batch_size": 2}
    content = {
        "model": {"class_path": "anomalib_plus.Tiled", "init_args": {"model": INNER[request.param], **TILES}},
        "data": {"class_path": "anomalib.data.MVTecAD", "init_args": {**data, "eval_batch_size": 4}},
    }
    config.write_text(yaml.safe_dump(content))
    silent = ["--trainer.enable_progress_bar=false", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = ["--trainer.max_epochs=15", "--trainer.check_val_every_n_epoch=15", f"--default_root_dir={folder}"]
        AnomalibCLI(["fit", f"--config={config}", *silent, *run, "--model.visualizer=false"])
    (checkpoint,) = folder.rglob("*.ckpt")
    return Trained(request.param, config, checkpoint, Tiled.load_from_checkpoint(checkpoint).eval())


def build(name: str, **arguments: Any) -> Tiled:
    return Tiled(INNER[name], **{**TILES, "visualizer": False, **arguments})


def test_anomalib_lists_it_because_it_is_a_direct_subclass() -> None:
    assert AnomalibModule in Tiled.__bases__
    assert "tiled" in list_models()
    arguments = {"model": INNER["Padim"], **TILES}
    forms = ({"class_path": name, "init_args": arguments} for name in ("Tiled", "anomalib_plus.Tiled"))
    for model in (get_model("tiled", INNER["Padim"], **TILES), *map(get_model, forms)):
        assert type(model.inner) is Padim
        assert model.inner.model.n_features == 8


def test_the_trained_model_finds_the_defects(trained: Trained, surfaces: Surfaces) -> None:
    (metrics,) = quiet_engine().test(
        build(trained.name), datamodule=surfaces(), ckpt_path=trained.checkpoint, verbose=False
    )
    assert metrics["image_AUROC"] == 1
    assert metrics["pixel_AUROC"] > 0.9
    assert trained.model.post_processor.image_threshold.isfinite()


def test_checkpoint_is_plain_data_and_loads_the_same_model(trained: Trained, surface_batch: ImageBatch) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    assert content["hyper_parameters"]["model"]["class_path"].endswith(f".{trained.name}")
    arguments = json.loads(json.dumps(content["hyper_parameters"]))["model"]["init_args"]
    assert {name: arguments[name] for name in INNER[trained.name]["init_args"]} == INNER[trained.name]["init_args"]
    again = Tiled.load_from_checkpoint(trained.checkpoint)
    assert type(again.inner) is type(trained.model.inner)
    images = torch.nn.functional.interpolate(surface_batch.image, (70, 90))
    assert_same_predictions(trained.model, again, images)


def test_command_predicts_with_the_checkpoint(trained: Trained, mvtec_layout: Path) -> None:
    folder = mvtec_layout / "surface" / "test" / "defect"
    quiet = ["--model.visualizer=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    options = [f"--config={trained.config}", f"--ckpt_path={trained.checkpoint}", f"--data={folder}", *quiet]
    command = AnomalibCLI(["predict", *options, "--trainer.logger=false", f"--default_root_dir={Path.cwd()}"])
    assert all(command.config["predict"]["model"]["init_args"]["tile"][i] == 48 for i in (0, 1))


@pytest.mark.slow
def test_onnx_and_openvino_agree_for_the_whole_image(
    trained: Trained, surface_batch: ImageBatch, tmp_path: Path
) -> None:
    """With the threshold of the best F1; see test_tiles_with_decisions.py."""
    file = quiet_engine().export(trained.model, ExportType.ONNX, export_root=tmp_path, input_size=(64, 64))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    by_openvino = openvino.compile_model(openvino.convert_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 6):
        images = surface_batch.image[:count]
        with torch.inference_mode():
            expected = trained.model(images)
        assert ((expected.anomaly_map > 0) & (expected.anomaly_map < 1)).float().mean() > 0.1, "clamped: shows nothing"
        outputs = by_openvino(images.numpy())
        for arrays in (session.run(names, {"input": images.numpy()}), [outputs[name] for name in names]):
            found = dict(zip(names, map(torch.from_numpy, arrays), strict=True))
            assert_same_output(InferenceBatch(**found), expected, 1e-4)


def test_export_needs_the_size_of_the_images(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images of one size: pass input_size=\(HEIGHT, WIDTH\)"):
        trained.model.to_onnx(tmp_path)


def test_loss_terms_are_checked_for_models_that_have_them(trained: Trained) -> None:
    checks = [callback for callback in trained.model.configure_callbacks() if isinstance(callback, FiniteLoss)]
    assert len(checks) == (trained.name == "RamFAE")


def test_every_model_trains_on_tiles_and_comes_back(small_model: SmallModel, surfaces: Surfaces) -> None:
    """With its own callbacks and log entries, and the synthetic anomalies made on tiles."""
    history = EpochHistory()
    model = Tiled(small_model.build(), tile=(64, 64), tile_batch=4)
    if getattr(model.inner, "augmenter", None) is not None:
        corrupt, sizes = model.inner.augmenter.corrupt, []
        model.inner.augmenter.corrupt = lambda images, *rest: sizes.append(images.shape) or corrupt(images, *rest)
    engine = quiet_engine(max_epochs=2, limit_train_batches=2, callbacks=[history])
    engine.fit(model, datamodule=surfaces())
    assert len(history.losses) > 0
    if getattr(model.inner, "augmenter", None) is not None:
        assert set(sizes) == {(4, 3, 64, 64)}
    assert getattr(model.inner.model, "phase", 2) == 2
    loaded = Tiled.load_from_checkpoint(engine.best_model_path)
    assert type(loaded.inner) is small_model.cls
    assert_same_predictions(model, loaded, torch.rand(2, 3, 64, 64))


def test_a_resumed_training_ends_like_an_uninterrupted_one(surfaces: Surfaces, tmp_path: Path) -> None:
    whole, rest = EpochHistory(), EpochHistory()
    every_epoch = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    uninterrupted, resumed = build("RamFAE"), build("RamFAE")
    quiet_engine(max_epochs=3, callbacks=[whole, every_epoch]).fit(uninterrupted, datamodule=surfaces())
    torch.manual_seed(123)
    engine = quiet_engine(max_epochs=3, callbacks=[rest])
    engine.fit(resumed, datamodule=surfaces(), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert rest.losses == whole.losses[2:] != []
    torch.testing.assert_close(resumed.state_dict(), uninterrupted.state_dict(), rtol=0, atol=0, equal_nan=True)


def test_components_of_the_model_become_the_wrappers() -> None:
    inner = RamFAE(widths=(4, 8), visualizer=False, post_processor=PostProcessor(image_sensitivity=0.7))
    inner.post_processor._image_threshold.fill_(3.0)
    evaluator = inner.evaluator
    model = Tiled(inner)
    assert model.post_processor.image_sensitivity == 0.7
    assert model.post_processor.image_threshold.isnan(), "of whole images, not of tiles"
    assert model.evaluator is evaluator
    assert model.visualizer is inner.post_processor is inner.evaluator is None
    assert Tiled(RamFAE(widths=(4, 8)), evaluator=False).evaluator is None


def test_normalisation_is_kept_and_resizing_is_not(tmp_path: Path) -> None:
    model = build("Padim")
    (kept,) = model.model.tile_pre_processor.transform.transforms
    assert type(kept) is Normalize
    assert model.pre_processor.transform is None
    model.model.tile_pre_processor.transform = None
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(checkpoint)
    again = build("Padim")
    again.on_load_checkpoint(checkpoint)
    assert again.model.tile_pre_processor.transform is None


def test_a_class_is_found_by_its_path_although_another_has_its_name() -> None:
    other = type("Padim", (Padim,), {})  # referenced, so that it exists
    assert type(build_model(INNER["Padim"])) is Padim is not other


def refusals() -> Iterator[Any]:
    inner = INNER["RamFAE"]
    yield {"model": inner, "tile": (0, 32)}, ValueError, "tile must be a height and a width"
    yield {"model": inner, "overlap": 1.0}, ValueError, "overlap must be at least 0 and below 1, got 1.0"
    yield {"model": inner, "scale": 0}, ValueError, "scale must be positive, got 0"
    yield {"model": inner, "tile_batch": 0}, ValueError, "tile_batch must be at least 1, got 0"
    yield {"model": 3}, TypeError, "anomalib model or its class_path and init_args, got int"
    yield {"model": {"class_path": "os.system"}}, ValueError, "No imported model has the class_path 'os.system'"
    yield {"model": {**inner, "name": 1}}, ValueError, "class_path and may have init_args, nothing else"
    yield {"model": Ganomaly()}, TypeError, "Ganomaly does more in a prediction than call its network"
    yield {"model": RamFAE(pre_processor=torch.nn.Identity())}, TypeError, "pre_processor is a Identity"


@pytest.mark.parametrize(("arguments", "error", "text"), refusals())
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Tiled(**arguments)
