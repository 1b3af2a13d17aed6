"""The script of docs/deploy.md that compares INT8 on draws of the demo."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomalib_plus import DemoSurfaces
from small_ramfae import train_small_ramfae

INT8_ON_DRAWS = Path(__file__).parents[2] / "docs" / "examples" / "int8_on_draws.py"


@pytest.mark.slow
def test_int8_is_predicted_on_draws_of_the_demo(
    mvtec_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    trained, engine = train_small_ramfae(mvtec_layout, tmp_path)
    checkpoint = tmp_path / "model.ckpt"
    engine.trainer.save_checkpoint(checkpoint)
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
