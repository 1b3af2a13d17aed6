"""Every YAML file below ``configs``, but for the benchmark's, is accepted by anomalib's parser and can be built."""

import json
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from anomalib.cli import AnomalibCLI
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentParser

import anomalib_plus.models

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(file for file in CONFIGS.rglob("*.yaml") if file.parent.name not in ("benchmark", "deployment"))


class ParsingCLI(AnomalibCLI):
    """Parses the arguments and leaves it at that."""

    def instantiate_classes(self) -> None:
        pass


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return ParsingCLI(["train", "--model", "RamFAE"], run=False).subcommand_parsers["train"]


def recipe_of(ablation):
    """The config on top of which the README's command puts an ablation."""
    written = yaml.safe_load(ablation.read_text())
    model, data = (written[section]["class_path"].rsplit(".", 1)[1].lower() for section in ("model", "data"))
    special = CONFIGS / f"{model}_{data}.yaml"
    return special if special.exists() else CONFIGS / f"{model}.yaml"


def test_each_model_has_its_recipe():
    assert {f"{model.lower()}.yaml" for model in anomalib_plus.models.__all__} <= {file.name for file in FILES}
    assert not list(CONFIGS.rglob("*.yml")), "the suffix is .yaml, else the test below misses the file"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_config(file, parser):
    written = yaml.safe_load(file.read_text())
    parsed = parser.parse_args(["--config", str(file)])
    for section in written.keys() & {"model", "data"}:  # small presets are for any data
        module, name = written[section]["class_path"].rsplit(".", 1)
        assert getattr(import_module(module), name).__name__ == parsed[section].class_path.rsplit(".", 1)[1]
    for name, value in written["trainer"].items():
        assert parsed.trainer[name] == value, name

    del parsed["data"]
    if "pre_trained" in parsed.model.init_args:
        parsed.model.init_args.pre_trained = False  # the weights are not at hand
    with torch.device("meta"):  # no memory and no random numbers for the weights
        model = parser.instantiate_classes(parsed).model
    assert isinstance(model, AnomalibModule)
    arguments = written["model"].get("init_args", {})
    for name in (arguments.keys() & model.hparams.keys()) - {"pre_trained"}:
        assert json.loads(json.dumps(model.hparams[name])) == arguments[name], name  # a tuple is a list in YAML


def test_an_ablation_on_top_of_its_recipe_is_judged_like_it(parser):
    recipe, ablation = CONFIGS / "rbae.yaml", CONFIGS / "ablations" / "rbae_table5_row_b.yaml"
    parsed = parser.parse_args(["--config", str(recipe), "--config", str(ablation)])
    arguments = parsed.model.init_args
    assert not arguments.use_rbam
    assert not arguments.post_processor.init_args.enable_normalization
    assert [metric.class_path.rsplit(".", 1)[1] for metric in arguments.evaluator.init_args.test_metrics] == [
        "AUROC",
        "AUROC",
        "AUPRO",
    ]
    assert parsed.trainer.check_val_every_n_epoch == 50


@pytest.mark.parametrize("file", sorted((CONFIGS / "ablations").iterdir()), ids=lambda file: file.stem)
def test_a_recipe_adds_nothing_to_its_ablations_but_how_they_are_judged(file):
    recipe, ablation = (yaml.safe_load(path.read_text()) for path in (recipe_of(file), file))
    added = dict(recipe["model"]["init_args"])
    assert not added.pop("post_processor")["init_args"]["enable_normalization"]
    assert added.pop("evaluator")["init_args"]["test_metrics"]
    defaults = signature(getattr(anomalib_plus.models, ablation["model"]["class_path"].rsplit(".", 1)[1])).parameters
    given = ablation["model"].get("init_args", {})
    assert {name: value for name, value in added.items() if name not in given} == {
        name: defaults[name].default for name in added.keys() - given.keys()
    }
    assert recipe["data"]["class_path"] == ablation["data"]["class_path"]
    assert recipe["data"]["init_args"].keys() == ablation["data"]["init_args"].keys()
    assert recipe["trainer"]["max_epochs"] == ablation["trainer"]["max_epochs"]
