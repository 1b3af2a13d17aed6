"""The ``anomalib`` command with the model by its bare name, in this process."""

from pathlib import Path

import openvino
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.engine import Engine

from anomalib_plus.cli import main

from .conftest import Trained
from .small_models import IMAGE_SIZE, SmallModel, each_once

RESULTS = Path("results")


@pytest.fixture
def data_arguments(mvtec_layout: Path) -> list[str]:
    return [
        "--data=MVTecAD",
        f"--data.root={mvtec_layout}",
        "--data.category=surface",
        "--data.num_workers=0",
        "--data.train_batch_size=2",
    ]


def trained_weights(command: AnomalibCLI) -> Path:
    (weights,) = (RESULTS / command.model.name).rglob("v0/weights/lightning/model.ckpt")
    return weights


def test_fit_and_the_configuration_it_saves(small_model: SmallModel, data_arguments: list[str]) -> None:
    command = AnomalibCLI(
        ["fit", *small_model.command_line, "--model.visualizer=false", *data_arguments, "--trainer.max_epochs=2"]
    )
    assert torch.load(trained_weights(command), weights_only=True)["epoch"] == 1
    (saved,) = RESULTS.rglob("v0/config.yaml")
    engine, model, datamodule = Engine.from_config(saved)
    assert isinstance(engine, Engine)
    assert isinstance(datamodule, MVTecAD)
    assert dict(model.hparams) == dict(command.model.hparams)
    assert model.input_size == IMAGE_SIZE


def test_train_fits_and_tests(small_model: SmallModel, data_arguments: list[str]) -> None:
    command = AnomalibCLI(
        ["train", *small_model.command_line, "--model.visualizer=false", *data_arguments, "--trainer.max_epochs=1"]
    )
    assert trained_weights(command).is_file()
    metrics = command.engine.trainer.callback_metrics
    assert {"image_AUROC", "pixel_AUROC"} <= set(metrics)
    assert all(0 <= value <= 1 for value in metrics.values())


def test_test_gives_the_metrics_of_the_checkpoint(
    small_model: SmallModel, data_arguments: list[str], trained: Trained
) -> None:
    options = ["--model.visualizer=false", *data_arguments, f"--ckpt_path={trained.checkpoint}"]
    command = AnomalibCLI(["test", *small_model.command_line, *options])
    metrics = {name: float(value) for name, value in command.engine.trainer.callback_metrics.items()}
    assert metrics == pytest.approx(trained.metrics, abs=1e-6)


def test_validate_measures_the_thresholds_of_the_checkpoint(
    small_model: SmallModel, data_arguments: list[str], trained: Trained
) -> None:
    command = AnomalibCLI(["validate", *small_model.command_line, *data_arguments, f"--ckpt_path={trained.checkpoint}"])
    torch.testing.assert_close(
        command.model.post_processor.state_dict(), trained.model.post_processor.state_dict(), atol=1e-6, rtol=0
    )


@each_once([("datamodule", 6), ("test/defect", 3), ("test/good/001.png", 1)], every=[("test/defect", 3)])
def test_predict_draws_one_picture_per_image(
    small_model: SmallModel, data_arguments: list[str], mvtec_layout: Path, trained: Trained, case: tuple[str, int]
) -> None:
    source, count = case
    data = data_arguments if source == "datamodule" else [f"--data={mvtec_layout / 'surface' / source}"]
    AnomalibCLI(["predict", *small_model.command_line, *data, f"--ckpt_path={trained.checkpoint}"])
    assert len(list(RESULTS.rglob("images/**/*.png"))) == count


def test_export_to_torch(small_model: SmallModel, trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    """ONNX takes long to export: test_export.py does it once, by this command too."""
    arguments = ["export", *small_model.command_line, "--export_type=torch", f"--ckpt_path={trained.checkpoint}"]
    assert main(["--quiet", *arguments]) == 0
    (exported,) = RESULTS.rglob("weights/torch/model.pt")
    assert capsys.readouterr().out == f"exported: {exported}\n"
    model = torch.load(exported, weights_only=False)["model"]
    torch.testing.assert_close(model.state_dict(), trained.model.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
def test_export_to_openvino(small_model: SmallModel, trained: Trained) -> None:
    """Most of it is the export to ONNX once more."""
    AnomalibCLI(["export", *small_model.command_line, "--export_type=openvino", f"--ckpt_path={trained.checkpoint}"])
    (exported,) = RESULTS.rglob("weights/openvino/model.xml")
    outputs = openvino.Core().compile_model(exported, "CPU")(torch.rand(2, 3, *IMAGE_SIZE).numpy())
    assert {output.get_any_name() for output in outputs} == {"pred_score", "pred_label", "anomaly_map", "pred_mask"}
    assert outputs["anomaly_map"].shape == (2, 1, *IMAGE_SIZE)
