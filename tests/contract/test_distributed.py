"""Two processes on one machine's CPU train, save and test the model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .small_models import SmallModel

SOME_PARTS_REST = {"RbAE"}
"""Models that train a part of their network at a time, which PyTorch has to be told."""

SCRIPT = """
import json, sys
from anomalib.data import MVTecAD
from contract.small_models import SmallModel, quiet_engine

name, strategy, root = sys.argv[1:]
small_model = SmallModel.named(name)
data = {"root": root, "category": "surface", "num_workers": 0, "train_batch_size": 2}
engine = quiet_engine(max_epochs=2, devices=2, strategy=strategy)
engine.fit(small_model.build(), datamodule=MVTecAD(**data))
(metrics,) = quiet_engine(devices=2, strategy="ddp_fork").test(
    small_model.build(), datamodule=MVTecAD(**data), ckpt_path=engine.best_model_path, verbose=False
)
print(json.dumps({"checkpoint": engine.best_model_path, "metrics": metrics}))
"""


@pytest.mark.slow
def test_two_processes(small_model: SmallModel, mvtec_layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an interpreter of its own: a fork of one that has run other models may wait for their threads for ever."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=":")
    strategy = "ddp_fork_find_unused_parameters_true" if small_model.name in SOME_PARTS_REST else "ddp_fork"
    command = [sys.executable, "-c", SCRIPT, small_model.name, strategy, str(mvtec_layout)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    checkpoint = torch.load(result["checkpoint"], weights_only=True)
    assert checkpoint["global_step"] == 4  # in each epoch three of the six images by each process, in batches of two
    loaded = small_model.cls.load_from_checkpoint(result["checkpoint"], weights_only=True)
    assert all(torch.isfinite(parameter).all() for parameter in loaded.parameters())
    assert set(result["metrics"]) >= {"image_AUROC", "pixel_AUROC"}
    assert all(0 <= value <= 1 for value in result["metrics"].values())
