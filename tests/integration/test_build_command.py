"""From good parts to decisions with the commands, and real trainings: those of the unit tests are stubs."""

import json
from pathlib import Path

import yaml

from anomalib_plus.cli import main
from part_images import save_parts

TINY = {
    "label": "Tiny",
    "class_path": "anomalib.models.Padim",
    "init_args": {"backbone": "test_resnet", "layers": ["layer1"], "pre_trained": False, "n_features": 10},
    "budget": {"max_epochs": 1},
}


def test_build_and_score(tmp_path: Path) -> None:
    save_parts(tmp_path / "good", 20, size=64)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"models": [TINY]}))
    arguments = ["--good", "good", "--output", "inspector", "--models", "tiny.yaml", "--image-size", "32", "32"]

    assert main(["build", *arguments, "--steps", "1", "--false-alarms", "0.3"]) == 0

    info = json.loads((tmp_path / "inspector" / "inspector.json").read_text())
    assert info["name"] == "Padim"
    assert "synthetic defects are found" in (tmp_path / "inspector" / "report.html").read_text()
    assert main(["score", "inspector", "good", "--output", "scores.csv"]) in (0, 1)
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 1 + 20
