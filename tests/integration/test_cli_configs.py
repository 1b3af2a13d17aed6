"""Every YAML file below ``configs``, but for the benchmark's, is accepted by anomalib's parser and can be built."""

import json
from importlib import import_module
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


def test_each_model_has_its_recipe():
    assert {f"{model.lower()}.yaml" for model in anomalib_plus.models.__all__} <= {file.name for file in FILES}
    assert not list(CONFIGS.rglob("*.yml")), "the suffix is .yaml, else the test below misses the file"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_config(file, parser):
    written = yaml.safe_load(file.read_text())
    parsed = parser.parse_args(["--config", str(file)])
    for section in ("model", "data"):
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
