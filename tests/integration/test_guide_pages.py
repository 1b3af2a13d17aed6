"""The code of the short guides in docs/ runs as it stands there, apart from sizes and lengths."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from anomalib.engine import Engine
from PIL import Image

from anomalib_plus.cli import main
from anomalib_plus.data.demo_surfaces import writing
from anomalib_plus.inspector import read_bundle_info
from page_code import DOCS, blocks, page, replaced, run
from part_images import draw_part, save_parts

ROOT = DOCS.parent


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """20 good and one bad part of 64x64 pixels."""
    save_parts(tmp_path / "parts" / "good", 20, size=64)
    pixels = draw_part(99, size=64)
    pixels[20:40, 20:40] = 255
    (tmp_path / "parts" / "bad").mkdir()
    Image.fromarray(pixels).save(tmp_path / "parts" / "bad" / "000.png")
    return tmp_path / "parts"


def test_an_inspector_by_hand(parts: Path) -> None:
    (code,) = blocks("own_images.md", "python")
    changes = {
        'max_time={"minutes": 10}, max_epochs=-1': "max_epochs=1",
        "(128, 128)": "(64, 64)",
        "(8, 16, 32, 64)": "(4, 8, 16, 32)",
    }
    names = run(replaced(code, changes), "own_images.md")
    info = read_bundle_info(names["folder"])
    assert len(info.calibration_scores) == 4
    assert info.false_alarm_rate == 0.05
    good = [names["inspector"](path) for path in names["data"].val_data.samples.image_path]
    assert sorted(one.score for one in good) == pytest.approx(info.calibration_scores)
    assert info.threshold == max(info.calibration_scores) == pytest.approx(0.5, abs=0.01)  # too few images for 5 %
    assert [one.decision for one in good] == ["accept"] * 4
    assert names["prediction"].map.shape == (64, 64)


def test_the_build_command_of_the_guide(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("own_images.md", "bash")
    build = [shlex.split(line, comments=True)[1:] for line in code.splitlines() if " build " in line]
    assert main([*build[0], "--models", "small/ramfae"]) == 0
    assert "20 good images" in capsys.readouterr().out
    assert [argument for argument in build[0] if argument != "--dry-run"] == build[1][:-2]


def test_the_benchmark_commands_of_the_choice(mvtec_layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = page("choose_a_model.md") + page("few_images.md").replace("\\\n", "")
    commands = re.findall(r"anomalib-plus (benchmark [^`\n]*)", pages)
    assert len(commands) == 3
    for command in commands:
        arguments = replaced(command, {"configs/": f"{ROOT}/configs/", "FOLDER": str(mvtec_layout)})
        assert main([*shlex.split(arguments), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "Untrained" in shown
    assert "surface" in shown


def test_measured_values_are_those_of_the_benchmark_page() -> None:
    """In both guides, every value with its standard deviation, and every row of the table of models."""
    measured = page("benchmark.md")
    value = r"([\d.]+(?: ± [\d.]+)?)"
    rows = re.findall(
        rf"^\| (tiles|cubes|screw) \| (\S+|no model) \| {value} \|.*?\| {value} \| \d+(?: to \d+)? \|$",
        measured.partition("### Version 0.1")[0],
        re.MULTILINE,
    )
    values = {(data, model): figures for data, model, *figures in rows}
    assert len(values) == len(rows) == 30
    table = re.findall(r"^\| (\S+|no model) \| (?:yes|no) \| (.*) \|$", page("choose_a_model.md"), re.MULTILINE)
    assert len(table) == 10
    for model, cells in table:
        columns = zip(*(values[data, model] for data in ("tiles", "cubes", "screw")), strict=True)
        assert cells.split(" | ") == [figure for column in columns for figure in column], model
    short = re.findall(r"^\| \[(\w+)\].*?\| (\w+) \| ([\d.]+ ± [\d.]+) \|", page("how_long_to_train.md"), re.MULTILINE)
    assert len(short) == 5
    assert [model for model, data, value in short if f"| {data} | **{model}** | {value} |" not in measured] == []


def test_the_curve_of_a_training(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("how_long_to_train.md", "python")
    changes = {"max_epochs=50, check_val_every_n_epoch=5": "max_epochs=2, check_val_every_n_epoch=1"}
    run(replaced(code, changes), "how_long_to_train.md")
    assert len(re.findall(r"step \d+: [01]\.\d{3}\n", capsys.readouterr().out)) == 2


@pytest.mark.parametrize("model", ["before", "after"])
def test_the_migrated_script(
    model: str, parts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "export", lambda *_, **__: "exported")  # seconds; the first test exports
    (script,) = blocks("migrate.md", "python")
    assert len(script.splitlines()) <= 42
    if model == "after":
        for hunk in re.split(r"^@@.*\n", blocks("migrate.md", "diff")[0], flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert script.count(old) == 1
            script = script.replace(old, new)
    changes = {
        "before": {'"resnet18"': '"test_resnet", pre_trained=False, n_features=8', "(256, 256)": "(64, 64)"},
        "after": {"RamFAE(\n": "RamFAE(\n        widths=(4, 8, 16, 32),\n", "(256, 256)": "(64, 64)", "=250": "=1"},
    }[model]
    assert run(replaced(script, changes), "migrate.md")["main"](["--root", "parts"]) == "exported"
    assert re.search(r"^[01] rejected$", capsys.readouterr().out, re.MULTILINE)


def test_the_lines_that_keep_padim() -> None:
    (script,), (_, kept) = blocks("migrate.md", "python"), blocks("migrate.md", "diff")
    script = script.split("    engine = Engine()")[0] + "    return model\n"
    added = [line[1:] + "\n" for line in kept.splitlines() if line.startswith("+")]
    script = script.replace("from anomalib.models import Padim\n", "from anomalib.models import Padim\n" + added[0])
    script = replaced(script, {"Padim(\n": f"Padim(\n{added[1]}        pre_trained=False,\n"})
    assert run(script, "migrate.md")["main"]([]).post_processor.false_positive_rate == 0.05


def test_a_transform_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, *rest = blocks("add_a_transform.md", "python")
    (tmp_path / "spatter.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("TRAIN_GOOD", "TEST_GOOD", "TEST_PER_DEFECT"):
        monkeypatch.setattr(writing, name, 4)
    names = run("import torch\n" + "\n".join(rest), "add_a_transform.md")
    assert Image.open("spatter.png").width > 4 * 64
    assert names["masks"].flatten(1).any(1).all()
    for model in ("model", "mixed"):
        assert "spatter.Spatter" in str(names[model].hparams["augmenter"])
    section = yaml.safe_load(blocks("add_a_transform.md", "yaml")[0])["model"]["init_args"]["augmenter"]
    assert names["RamFAE"](augmenter=section).augmenter.spots == 4
