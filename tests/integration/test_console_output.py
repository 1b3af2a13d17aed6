"""What ``anomalib-plus`` prints: a line per epoch where there is no terminal, and with ``--quiet`` little else."""

import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from anomalib_plus.cli import main
from anomalib_plus.console_output import drop_advertising, less_output
from anomalib_plus.epoch_lines import EpochLines

RUN = ["--model", "RamFAE", "--model.widths", "[4,4,4,4]", "--model.visualizer", "false", "--trainer.accelerator"]
RUN += ["cpu", "--trainer.max_epochs", "2", "--trainer.logger", "false", "--data", "MVTec", "--data.category"]
RUN += ["surface", "--data.num_workers", "0", "--data.root"]
EPOCHS = (
    r"training RamFAE: 1 batch per epoch\n"
    r"epoch 1/2: train_loss \d\.\d+, \d+ s in all\n"
    r"epoch 2/2: train_loss \d\.\d+, \d+ s in all\n"
)


def test_quiet_prints_one_line_per_event(mvtec_layout: Path) -> None:
    code = "import sys; from anomalib_plus.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--quiet", "train", *RUN, str(mvtec_layout)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(EPOCHS + r"test: image_AUROC [^\n]*\nresults: [^\n]*/results/RamFAE/[^\n]*\n", done.stdout)
    assert done.stderr == ""


def test_a_log_file_has_a_line_per_epoch_by_default(mvtec_layout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *RUN, str(mvtec_layout)]) == 0
    assert list(Path("results/RamFAE/MVTec/surface").rglob("*.ckpt"))
    shown = capfd.readouterr()
    assert re.search(EPOCHS, shown.out)
    assert "RamFAEModel" in shown.out  # the table of the layers
    assert "━ 1/1" not in shown.out  # the bar
    assert "Warning" not in shown.err


@pytest.mark.parametrize("quiet", [True, False])
def test_warnings_are_one_line_each(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("lightning.pytorch.test")
    log.setLevel(logging.INFO)
    with less_output(quiet):
        for _ in range(2):
            warnings.warn("few\n images", UserWarning, stacklevel=1)
        warnings.warn("renamed", FutureWarning, stacklevel=1)
        assert log.isEnabledFor(logging.INFO) != quiet
        assert log.isEnabledFor(logging.WARNING)
    assert capsys.readouterr().err == "UserWarning: few images\n"
    assert log.isEnabledFor(logging.INFO)


@pytest.mark.parametrize(
    ("message", "is_shown"), [("Seed set to 0", True), ("💡 Tip: try this", False), ("The following callbacks", True)]
)
def test_advertising_is_dropped(message: str, is_shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("lightning.fabric")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        drop_advertising()
        logger.warning(message)
    finally:
        logger.removeHandler(handler)
    assert (message in capsys.readouterr().err) == is_shown


@pytest.mark.parametrize(
    ("has_anomalous", "line"),
    [(True, "test: image_AUROC 0.75"), (False, "test: no metrics, because no image is defective")],
)
def test_metrics_of_good_images_only_are_not_printed(has_anomalous, line, capsys):
    trainer = SimpleNamespace(
        is_global_zero=True,
        default_root_dir="folder",
        callback_metrics={"image_AUROC": 0.75},
        datamodule=SimpleNamespace(test_data=SimpleNamespace(has_anomalous=has_anomalous)),
    )
    EpochLines(quiet=True).on_test_end(trainer, BoringModel())
    assert capsys.readouterr().out == f"{line}\nresults: folder\n"


def test_predictions_end_with_their_folder(tmp_path, capsys):
    trainer = Trainer(
        default_root_dir=tmp_path, callbacks=[EpochLines(quiet=True)], logger=False, enable_progress_bar=False
    )
    trainer.predict(BoringModel())
    assert capsys.readouterr().out == f"results: {tmp_path}\n"
