"""Presets, the commands that list them, and models built from them."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml

import anomalib_plus
from anomalib_plus import models, preset, preset_path
from anomalib_plus.cli import main
from anomalib_plus.presets import preset_names
from anomalib_plus.transforms.visibility import is_grey


def class_of(content: dict) -> type:
    return getattr(models, content["model"]["class_path"].rpartition(".")[2])


@pytest.mark.filterwarnings("ignore:No texture folder")
@pytest.mark.parametrize("name", preset_names())
def test_a_preset_builds_its_model(name: str) -> None:
    content = preset(name)
    assert "data" not in content
    assert content["trainer"]
    kind = class_of(content)
    is_random = {"model.pre_trained": "false"} if "pre_trained" in inspect.signature(kind).parameters else {}
    with torch.device("meta"):  # no memory and no random numbers for the weights
        built = kind.from_config(content, **is_random)
    assert type(built) is kind
    assert list(built.pre_processor.transform.size) == [128, 128]
    assert len(built.evaluator.test_metrics) == 4
    assert content == preset(name), "the content is the caller's to change"
    if (augmenter := getattr(built, "augmenter", None)) is not None:
        greys = torch.rand(4, 1, 64, 64).expand(-1, 3, -1, -1)
        changed = augmenter.corrupt(greys, torch.Generator().manual_seed(0)).image
        assert not torch.equal(changed, greys)
        assert is_grey(changed).all(), "colour would give the synthetic defects of grey data away"


def test_a_preset_is_a_file_too_arguments_can_be_replaced_and_wrong_configurations_are_named(tmp_path: Path) -> None:
    content = preset("small/ramfae")
    changed = models.RamFAE.from_config(preset_path("small/ramfae"), **{"model.widths": "[4,8]"})
    assert list(changed.hparams["widths"]) == [4, 8]
    assert changed.hparams["l2_weight"] == content["model"]["init_args"]["l2_weight"] != 1
    with pytest.raises(ValueError, match="a configuration of RamFAE, not of FEAR"):
        models.FEAR.from_config(content)
    with pytest.raises(ValueError, match="no key 'model'"):
        models.RamFAE.from_config({"trainer": {}})
    with pytest.raises(FileNotFoundError):
        models.RamFAE.from_config(tmp_path / "missing.yaml")


def test_presets_are_listed_and_an_unknown_one_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert all(len(line.split()) > 3 for line in lines)
    assert main(["config", "small/ramfae"]) == 0
    assert yaml.safe_load(Path(capsys.readouterr().out.strip()).read_text()) == preset("small/ramfae")
    with pytest.raises(SystemExit, match="2"):
        main(["config", "small/nothing"])
    assert f"no preset 'small/nothing'; available: {', '.join(preset_names())}" in capsys.readouterr().err


def test_models_are_listed_with_their_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    *lines, hint = capsys.readouterr().out.splitlines()
    assert "--model.help" in hint
    found = {first.split()[0]: (first, second) for first, second in zip(lines[::2], lines[1::2], strict=True)}
    assert found.keys() == set(models.__all__)
    for name in preset_names():
        assert name in found[class_of(preset(name)).__name__][1]
    for name, (first, _) in found.items():
        assert first.endswith(inspect.getdoc(getattr(models, name)).splitlines()[0])


def test_presets_of_an_installed_package_lie_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs" / "small").mkdir(parents=True)
    (tmp_path / "configs" / "small" / "own.yaml").write_text("model: {}\n")
    monkeypatch.setattr("anomalib_plus.presets.__file__", str(tmp_path / "presets.py"))
    assert preset_names() == ["small/own"]
    assert anomalib_plus.preset("small/own") == {"model": {}}
