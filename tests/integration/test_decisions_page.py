"""What stands in docs/decisions.md runs as it stands there, with small networks."""

import re
import runpy
import shlex
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder
from anomalib.models import AnomalibModule, Padim
from jsonargparse import ArgumentParser

from anomalib_plus import AstMFR, ConformalPostProcessor, DecisionEvaluator, RegionVisualizer
from anomalib_plus.post_processing.conformal_math import false_alarm_bound, images_needed
from page_code import DOCS, blocks, page, run

PAGE = "decisions.md"
SMALL = (
    "--model.teacher test_resnet --model.student test_efficientnet --model.pre_trained false "
    "--model.pre_processor anomalib.pre_processing.PreProcessor "
    "--model.pre_processor.transform torchvision.transforms.v2.Resize --model.pre_processor.transform.size [64,64] "
    "--trainer.max_epochs 1 --trainer.accelerator cpu --data.num_workers 0"
)


@pytest.fixture
def parts(mvtec_layout: Path, left_mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working folder with the six good images and a mask."""
    (tmp_path / "good").symlink_to(mvtec_layout / "surface" / "train" / "good", target_is_directory=True)
    left_mask.rename(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Padim.__init__, "__defaults__", ("test_resnet", ["layer1"], False, 8, True, True, True, True))
    monkeypatch.setattr("anomalib.data.Folder", partial(Folder, num_workers=0))
    return tmp_path


def test_the_command_ends_with_thresholds_and_pictures(parts: Path, caplog: pytest.LogCaptureFixture) -> None:
    command, _ = blocks(PAGE, "bash")
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert program == "anomalib"
    with caplog.at_level("INFO"):
        AnomalibCLI([*arguments, *SMALL.split()])
    assert re.search(r"AstMFR: thresholds from 1 good validation image: score 0\.\d+", caplog.text)
    assert "cannot keep a false-alarm rate of 0.05, which needs at least 19" in caplog.text
    assert "no defect among the validation images" not in caplog.text
    assert "AstMFR at its threshold, with intervals of 95% confidence:\n  good: " in caplog.text
    assert list((parts / "results").rglob("images/**/*.png"))
    (checkpoint,) = (parts / "results").rglob("v0/**/model.ckpt")
    assert AstMFR.load_from_checkpoint(checkpoint).post_processor.roi.mask.sum() == 64 * 32


def test_the_false_alarms_are_counted(
    mvtec_layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = re.search(r"python (docs/examples/\S+)", blocks(PAGE, "bash")[1])[1]
    names = runpy.run_path(str(DOCS.parent / script))
    padim = {"backbone": "test_resnet", "layers": ["layer1"], "pre_trained": False, "n_features": 4}
    scope = names["main"].__globals__
    scope |= {"MODELS": {"PaDiM": ("anomalib.models.Padim", padim)}, "SIZE": (32, 32), "offer_lite_weights": list}
    monkeypatch.setattr(sys, "argv", ["", str(mvtec_layout / "surface"), "--rate", "0.3"])
    names["main"]()
    head, _, *rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert f"| {' | '.join(head)} |" in page(PAGE)
    assert [row[:4] for row in rows] == [["surface", "PaDiM", *each] for each in (
        ("at random", "no"), ("by part", "no"), ("by part", "yes"),
    )]  # fmt: skip
    assert all(re.fullmatch(r"\d+ of \d+: \d+ % \(\d+ to \d+\)", cell) for row in rows for cell in row[6:10])
    assert [int(row[4]) >= int(row[5]) > 0 for row in rows] == [True] * 3
    assert rows[0][4] == rows[0][5], "at random, each image is taken for a part of its own"


def test_the_code_runs(parts: Path) -> None:
    torch.manual_seed(0)
    names = run("\n".join(blocks(PAGE, "python")), PAGE)
    budget = names["model"].post_processor.budget
    assert budget["n"] == 1
    assert budget["supported_rate"] == 0.5
    assert names["loaded"].post_processor.budget == budget
    assert list((parts / "exported").rglob("model.onnx"))


def test_the_yaml_builds_what_it_says(parts: Path) -> None:
    (section,) = (yaml.safe_load(block) for block in blocks(PAGE, "yaml"))
    arguments = section["model"]["init_args"]
    small = {"teacher": "test_resnet", "student": "test_efficientnet", "pre_trained": False}
    parser = ArgumentParser()
    parser.add_subclass_arguments(AnomalibModule, "model")
    parsed = parser.parse_object({"model": {**section["model"], "init_args": {**small, **arguments}}})
    model = parser.instantiate_classes(parsed).model
    assert isinstance(model.post_processor, ConformalPostProcessor)
    assert model.post_processor.false_positive_rate == 0.05
    assert model.post_processor.roi.is_set
    assert isinstance(model.evaluator, DecisionEvaluator)
    assert isinstance(model.visualizer, RegionVisualizer)
    assert section["data"]["init_args"]["val_split_mode"] == "from_train"


def test_the_table_is_right() -> None:
    rows = re.findall(r"^\| ([\d.]+) % \| (\d+) \| ([\d.]+) % \|$", page(PAGE), flags=re.MULTILINE)
    assert len(rows) == 5
    for rate, needed, bound in rows:
        assert images_needed(float(rate) / 100) == int(needed)
        assert 100 * false_alarm_bound(int(needed), int(needed)) == pytest.approx(float(bound), abs=0.05)
