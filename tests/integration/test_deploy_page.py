"""The script of docs/deploy.md that compares INT8 on draws of the demo."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from sklearn.metrics import roc_auc_score

from anomalib_plus import DemoSurfaces
from anomalib_plus.models import RamFAE

INT8_ON_DRAWS = Path(__file__).parents[2] / "docs" / "examples" / "int8_on_draws.py"


@pytest.fixture(scope="module")
def model(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RamFAE, Path]:
    """A trained model and its export to OpenVINO."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    pre_processor = RamFAE.configure_pre_processor((32, 32))
    trained = RamFAE(widths=[4, 8], learning_rate=5e-3, pre_processor=pre_processor, visualizer=False)
    engine = Engine(
        max_epochs=10, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        check_val_every_n_epoch=10,
    )  # fmt: skip
    engine.fit(trained, datamodule=MVTecAD(root=mvtec_layout, category="surface", train_batch_size=2, num_workers=0))
    engine.trainer.save_checkpoint(folder / "model.ckpt")
    return trained.eval(), engine.export(trained, ExportType.OPENVINO, export_root=folder)


@pytest.mark.slow
def test_int8_is_predicted_on_draws_of_the_demo(
    model: tuple[RamFAE, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    trained, exported = model
    checkpoint = exported.parents[2] / "model.ckpt"
    monkeypatch.setattr(
        sys, "argv", [str(INT8_ON_DRAWS), "RamFAE", str(checkpoint), "--draws", "1", "--folder", str(tmp_path)]
    )
    monkeypatch.chdir(tmp_path)  # for OpenVINO's cache
    runpy.run_path(str(INT8_ON_DRAWS), run_name="__main__")
    printed = capfd.readouterr().out
    said = re.search(r"draw 0: FP32 (.*), INT8 (.*)\nRamFAE, washer: INT8 (.*) points in the mean", printed)
    assert said
    before, change, mean = map(float, said.groups())
    data = DemoSurfaces(tmp_path / "draw0", num_workers=0)
    data.setup()
    with torch.inference_mode():
        scores = torch.cat([trained(batch.image).pred_score for batch in data.test_dataloader()])
    assert before == pytest.approx(100 * roc_auc_score(data.test_data.samples.label_index, scores), abs=0.2)
    assert mean == change
    assert (tmp_path / "RamFAE" / "INT8" / "weights" / "openvino" / "model.xml").is_file()
