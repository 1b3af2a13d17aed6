"""Costs on a GPU, run on the CPU: the rows, a failing model, the configuration that the package brings."""

import json
from pathlib import Path

import pytest
import yaml
from anomalib.models import AnomalibModule

from anomalib_plus import models
from anomalib_plus.benchmark.gpu_costs import Plan, main
from anomalib_plus.benchmark.schema import read
from anomalib_plus.benchmark.training import load_class

CONFIG = Path(__file__).parents[3] / "configs" / "benchmark" / "gpu.yaml"


def test_one_model_is_measured_and_another_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {
        "class_path": "anomalib_plus.models.RamFAE",
        "label": "narrow",
        "batch": 2,
        "image_size": [32, 32],
        "init_args": {"widths": [4, 4, 4, 4]},
    }
    plan = {
        "models": [small, {**small, "label": "wrong", "init_args": {"widths": [0]}}],
        "precisions": ["32-true"],
        "compiled": [False],
        "steps": 2,
        "profiled": 1,
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    arguments = ["--config", str(tmp_path / "plan.yaml"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(arguments) == 0
    good, bad = (json.loads(line) for line in (tmp_path / "out" / "costs.jsonl").read_text().splitlines())
    assert good["training_images_per_second"] > 0
    assert good["images_per_second"] > good["training_images_per_second"]
    assert good["training_memory_mib"] > 10
    assert bad["model"] == "wrong"
    assert "widths" in bad["error"]
    printed = capsys.readouterr().out
    assert "| narrow | 32x32 | 2 | 32-true | no | " in printed
    assert "convolution" in printed  # the profile


def test_the_configuration_has_every_model_at_its_own_size() -> None:
    plan = read(Plan, yaml.safe_load(CONFIG.read_text()), CONFIG.name)
    named = [load_class(entry.class_path, AnomalibModule).__name__ for entry in plan.models]
    assert set(models.__all__) < set(named)
    assert all(
        entry.image_size is None for entry, name in zip(plan.models, named, strict=True) if name in models.__all__
    )
