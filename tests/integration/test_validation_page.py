"""The code of docs/validation.md runs as it stands there, apart from sizes and lengths."""

import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from anomalib.data import Folder

from anomalib_plus import SyntheticValidation
from anomalib_plus.cli import main
from anomalib_plus.deployment.int8 import _calibration_images
from anomalib_plus.gallery import synthesize
from anomalib_plus.seeded_cli import SeededCLI
from page_code import blocks, replaced, run

PAGE = "validation.md"


@pytest.fixture(autouse=True)
def parts(mvtec_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # the command leaves them in the environment
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    shutil.copytree(mvtec_layout / "surface" / "train" / "good", tmp_path / "parts" / "good")


def test_early_stopping_on_good_images_alone() -> None:
    smaller = {"(128, 128)": "(64, 64)", "max_epochs=200": "max_epochs=3", "patience=10": "patience=1"}
    names = run(replaced(blocks(PAGE, "python")[0], smaller), PAGE)
    stopping = next(one for one in names["engine"].trainer.callbacks if type(one).__name__ == "EarlyStopping")
    assert torch.isfinite(stopping.best_score)
    assert names["model"].post_processor.image_threshold.isfinite()
    loader = _calibration_images(names["datamodule"])  # INT8 takes the same images, good and defective ones
    assert sorted(int(label) for batch in loader for label in batch.gt_label) == [0, 1]


def test_the_command_line() -> None:
    arguments = shlex.split(blocks(PAGE, "bash")[0].replace("\\\n", ""))
    cli = SeededCLI(["fit" if argument == "train" else argument for argument in arguments[1:]], run=False)
    assert isinstance(cli.datamodule, SyntheticValidation)
    assert isinstance(cli.datamodule.datamodule, Folder)
    assert str(cli.datamodule.datamodule.normal_dir) == "good"


def test_a_training_from_a_configuration_file(caplog: pytest.LogCaptureFixture) -> None:
    config = yaml.safe_load(blocks(PAGE, "yaml")[0]) | {
        "model": {
            "class_path": "anomalib_plus.models.RamFAE",
            "init_args": {
                "widths": [4, 8, 16, 32],
                "visualizer": False,
                "pre_processor": {
                    "class_path": "anomalib.pre_processing.PreProcessor",
                    "init_args": {
                        "transform": {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [64, 64]}}
                    },
                },
            },
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--config", "config.yaml"]) == 0
    assert list(Path("results/RamFAE/parts").rglob("model.ckpt"))
    assert "no defect among the validation images" not in caplog.text


def test_the_images_are_written() -> None:
    arguments = shlex.split(blocks(PAGE, "bash")[3].replace("100", "2"))
    assert synthesize.main(arguments[2:]) == 0
    assert len(list(Path("synthetic/parts/ground_truth").rglob("*.png"))) == 2
