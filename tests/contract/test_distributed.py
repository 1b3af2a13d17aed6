"""Two processes on one machine's CPU train, save and test the model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .small_models import SmallModel


@pytest.mark.slow
def test_two_processes(small_model: SmallModel, mvtec_layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=":")
    command = [sys.executable, "-m", "contract.two_processes", small_model.name, str(mvtec_layout)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    said = dict(line.split(" ", 1) for line in run.stdout.splitlines() if line.startswith(("FACTS", "RESULT")))
    facts, result = json.loads(said["FACTS"]), json.loads(said["RESULT"])
    assert facts["largest difference"] == 0
    assert len(facts["losses"][0]) == 4  # three of the six images for each process, two at a time, two epochs
    assert facts["losses"][0] == facts["losses"][1]
    assert facts["phase"] in (None, 2)
    assert torch.load(result["checkpoint"], weights_only=True)["global_step"] == 4
    loaded = small_model.cls.load_from_checkpoint(result["checkpoint"], weights_only=True)
    assert all(torch.isfinite(parameter).all() for parameter in loaded.parameters())
    assert set(result["metrics"]) >= {"image_AUROC", "pixel_AUROC"}
    assert all(0 <= value <= 1 for value in result["metrics"].values())
