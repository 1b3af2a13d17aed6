"""docs/add_a_model.md builds a model step by step: its blocks, put into files, train, predict and load."""

import re
import subprocess
import sys
from pathlib import Path

from page_code import blocks

CHECK = """
import torch
from anomalib.models import get_model, list_models

assert "tiny_a_e" in list_models()
loaded = TinyAE.load_from_checkpoint(engine.trainer.checkpoint_callback.last_model_path or engine.best_model_path)
assert loaded.hparams["augmenter"]["class_path"].endswith("Cutout")
images = torch.rand(2, 3, 64, 64)
assert torch.equal(loaded.eval().model(images).anomaly_map, model.eval().model(images).anomaly_map)
"""


def test_the_blocks_of_the_page_make_a_model(tmp_path: Path) -> None:
    code = blocks("add_a_model.md", "python")
    named = {match[1]: block for block in code if (match := re.match(r"# (\S+\.py)\n", block))}
    (script,) = [block for block in code if block not in named.values()]
    assert len(named) == 4
    for name, block in named.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
    (tmp_path / "script.py").write_text(script + CHECK)
    result = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "image_AUROC" in result.stdout
