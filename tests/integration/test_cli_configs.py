"""Every YAML file below ``configs``, but for the benchmark's, and every row of a paper can be parsed and built."""

import json
import shlex
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
from anomalib_plus.benchmark.papers import KINDS, cells, load_recipe, load_recipes, paper_names
from anomalib_plus.cli import main
from anomalib_plus.transforms import PerlinAnomaly, build_augmenter
from page_code import blocks

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(file for file in CONFIGS.rglob("*.yaml") if file.parent.name not in ("benchmark", "deployment"))


class ParsingCLI(AnomalibCLI):
    """Parses the arguments and leaves it at that."""

    def instantiate_classes(self) -> None:
        pass


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return ParsingCLI(["train", "--model", "RamFAE"], run=False).subcommand_parsers["train"]


def printed(arguments, capsys):
    """The file that ``anomalib-plus reproduce ... --print-config`` writes."""
    assert main(["reproduce", *arguments, "--print-config"]) == 0
    file = Path("printed.yaml")
    file.write_text(capsys.readouterr().out)
    return file


def test_each_model_has_its_recipe():
    assert {f"{model.lower()}.yaml" for model in anomalib_plus.models.__all__} <= {file.name for file in FILES}
    assert not list(CONFIGS.rglob("*.yml")), "the suffix is .yaml, else the test below misses the file"


def check(file, parser):
    written = yaml.safe_load(file.read_text())
    parsed = parser.parse_args(["--config", str(file)])
    for section in written.keys() & {"model", "data"}:  # small presets are for any data
        module, name = written[section]["class_path"].rsplit(".", 1)
        assert getattr(import_module(module), name).__name__ == parsed[section].class_path.rsplit(".", 1)[1]
    for name, value in written["trainer"].items():
        assert parsed.trainer[name] == value, name
    assert parsed.seed_everything == written["seed_everything"]

    del parsed["data"]
    if "pre_trained" in parsed.model.init_args:
        parsed.model.init_args.pre_trained = False  # the weights are not available
    with torch.device("meta"):  # no memory and no random numbers for the weights
        model = parser.instantiate_classes(parsed).model
    assert isinstance(model, AnomalibModule)
    arguments = written["model"].get("init_args", {})
    for name in (arguments.keys() & model.hparams.keys()) - {"pre_trained", "augmenter"}:
        assert json.loads(json.dumps(model.hparams[name])) == arguments[name], name  # a tuple is a list in YAML
    if augmenter := arguments.get("augmenter"):
        assert build_augmenter(augmenter).config() == model.hparams["augmenter"]
    return parsed, model


@pytest.mark.parametrize(
    ("file", "options", "changed"),
    [
        ("fear", ["--model.augmenter.textures", "DIR"], {"textures": "DIR"}),
        ("fear", ["--model.augmenter.roi", "everywhere"], {"roi": "everywhere"}),
        ("fear_btad", ["--model.augmenter.textures", "DIR"], {"textures": "DIR"}),
        ("rbae", ["--model.augmenter.textures", "DIR"], {"textures": "DIR"}),
        (None, ["--model.augmenter", "PerlinAnomaly", "--model.augmenter.textures", "DIR"], {"textures": "DIR"}),
        (None, ["--model.augmenter=PerlinAnomaly", "--model.augmenter.textures.folder=DIR"], {"textures": "DIR"}),
    ],
    ids=str,
)
def test_one_argument_of_the_synthetic_anomalies_is_exchanged_on_the_command_line(file, options, changed, parser):
    """The others stay what the recipe says."""
    path = CONFIGS / "models" / f"{file}.yaml"
    parsed = parser.parse_args([*(["--config", str(path)] if file else ["--model", "FEAR"]), *options])
    recipe = yaml.safe_load(path.read_text())["model"]["init_args"]["augmenter"]["init_args"] if file else {}
    del parsed["data"]
    with torch.device("meta"):
        model = parser.instantiate_classes(parsed).model
    expected = build_augmenter({"class_path": "PerlinAnomaly", "init_args": {**recipe, **changed}})
    assert model.hparams["augmenter"] == expected.config()


def test_the_commands_of_the_page_on_transforms_exchange_the_synthetic_anomalies(parser, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    (block,) = blocks("transforms.md", "bash")
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["anomalib", "train"]] * 2
    for command in commands:
        augmenter = parser.parse_args(command[2:]).model.init_args.augmenter
        built = build_augmenter({"class_path": augmenter.class_path, "init_args": vars(augmenter.init_args)})
        assert type(built) is PerlinAnomaly
        assert str(built.textures.folder) == "textures"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_config(file, parser):
    check(file, parser)


ROWS = [
    (paper, kind, name, row)
    for paper in paper_names()
    for kind in KINDS
    for name in load_recipes()[paper].get(f"{kind}s", ())
    for row in dict.fromkeys(row for cell in cells(paper, name, kind) for row in cell.variants)
]
QUICK = {row[:2]: row for row in ROWS}.values()
"""One row of each paper and kind. To parse the others takes a second each, and most hold the full model."""
BUILT: set[str] = set()
"""Models of earlier rows: the full model stands in most tables."""


@pytest.mark.parametrize(("paper", "kind", "name", "row"), ROWS)
def test_every_row_of_a_paper_is_a_configuration(paper, kind, name, row, capsys):
    content = yaml.safe_load(printed([paper, f"--{kind}", str(name), "--row", row], capsys).read_text())
    recipe = load_recipe(paper, name, kind)
    arguments = next(cell.variants[row] for cell in cells(paper, name, kind) if row in cell.variants)
    assert arguments.items() <= content["model"]["init_args"].items()
    assert content["data"]["class_path"] == load_recipes()["data"][recipe["data"]]["class_path"]
    assert content["data"]["init_args"]["train_batch_size"] == recipe["train_batch_size"]
    assert content["trainer"]["max_epochs"] == recipe["max_epochs"]
    assert content["seed_everything"] == 0
    if str(content["model"]) in BUILT:
        return
    BUILT.add(str(content["model"]))
    model_class = getattr(anomalib_plus.models, content["model"]["class_path"].rsplit(".", 1)[1])
    own = content["model"]["init_args"] | {"pre_trained": False}
    known = signature(model_class).parameters.keys() - {"pre_processor", "post_processor", "evaluator", "visualizer"}
    with torch.device("meta"):
        model = model_class(**{key: own[key] for key in own.keys() & known})
    assert arguments.keys() <= own.keys() & known
    assert arguments.keys() <= model.hparams.keys()


@pytest.mark.parametrize(
    ("paper", "kind", "name", "row"),
    [pytest.param(*row, marks=[] if row in QUICK else pytest.mark.slow) for row in ROWS],
)
def test_rows_of_papers_are_parsed_as_configurations_with_raw_metrics(paper, kind, name, row, parser, capsys):
    recipe = load_recipe(paper, name, kind)
    _, model = check(printed([paper, f"--{kind}", str(name), "--row", row], capsys), parser)
    assert not model.post_processor.enable_normalization
    assert len(model.evaluator.test_metrics) == len(recipe["metrics"])
    assert list(model.pre_processor.transform.size) == recipe["image_size"]


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        (["ramfae", "--table", "2", "--row", "full"], "ramfae"),
        (["fear", "--table", "4", "--row", "full"], "fear"),
        (["fear", "--table", "3"], "fear_btad"),
        (["astmfr", "--table", "1"], "astmfr"),
        (["tsdn", "--table", "2"], "tsdn"),
        (["rbae", "--table", "5", "--row", "a"], "rbae"),
    ],
)
def test_a_full_model_is_printed_as_its_recipe_has_it(arguments, config, parser, capsys):
    file = printed(arguments, capsys)
    ours, theirs = (
        parser.parse_args(["--config", str(path)]) for path in (file, CONFIGS / "models" / f"{config}.yaml")
    )
    for part in (ours, theirs):
        part.model.init_args.pop("pre_processor")  # the printed one names the model's own
        part.data.init_args.pop("category")
        part.data.init_args["root"] = Path(part.data.init_args.root)
        part.pop("config")
    assert ours == theirs


def test_options_change_the_printed_configuration(parser, capsys):
    options = shlex.split(
        "--set sync=1 --image-size 64 96 --max-steps 7 --seeds 5 --accelerator cpu --max-seconds 90 "
        "--data.root mine --data.category cube"
    )
    content = yaml.safe_load(printed(["rbae", "--table", "5", "--row", "B", *options], capsys).read_text())
    arguments = content["model"]["init_args"]
    assert (arguments["use_rbam"], arguments["sync"]) == (False, 1)
    assert arguments["pre_processor"]["init_args"]["transform"]["init_args"]["size"] == [64, 96]
    assert content["trainer"] == {
        "max_steps": 7, "max_time": {"seconds": 90}, "check_val_every_n_epoch": 50, "accelerator": "cpu"
    }  # fmt: skip
    assert content["data"]["init_args"] == {"category": "cube", "root": "mine", "train_batch_size": 8}
    assert content["seed_everything"] == 5


def test_a_category_is_a_row_where_there_is_one_training(capsys):
    content = yaml.safe_load(printed(["tsdn", "--table", "2", "--row", "Metal nut"], capsys).read_text())
    assert content["data"]["init_args"]["category"] == "metal_nut"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["astmfr", "--table", "7", "--row", "nothing"], "no row 'nothing': choose one by --row, of scratch, full, "),
        (["ramfae", "--table", "3"], "Several trainings are possible: choose one by --row, of gmsd, ssim, msgms"),
        (["rbae", "--variant", "nothing"], "the variants are temperature_0.05, temperature_0.1, strides_all_2, "),
        (["fear"], "--print-config needs --table, --figure or --variant"),
        (["fear", "--table", "1", "--data.category", "pill", "screw"], "takes one category, got pill, screw"),
        (["fear", "--table", "1", "--max-cpu-seconds", "9"], "no limit of CPU seconds"),
    ],
)
def test_a_wrong_row_is_an_error_that_lists_the_known_ones(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", *arguments, "--print-config"])
    assert message in capsys.readouterr().err
