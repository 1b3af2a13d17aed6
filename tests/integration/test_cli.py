"""The ``anomalib-plus`` command: its own commands, anomalib's, and the seed that anomalib's parser ignores."""

import logging
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from anomalib.cli import AnomalibCLI
from PIL import Image

from anomalib_plus import RamFAE, __version__
from anomalib_plus.cli import OWN_COMMANDS, main
from anomalib_plus.deployment.exporting import UntrainedModelError
from anomalib_plus.option_types import at_least
from anomalib_plus.seeded_cli import SeededCLI

SMALL_MODEL = ["--model", "RamFAE", "--model.widths", "[4,8,16,32]"]
CPU = ["--trainer.accelerator", "cpu", "--trainer.logger", "false"]


@pytest.fixture(autouse=True)
def _no_seed_from_outside(monkeypatch):
    """Seeding leaves its mark in the environment: take it away before and after."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def weights(cli: AnomalibCLI) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in cli.model.parameters()])


def build(*options: str, subcommand: str = "fit", cli: type[AnomalibCLI] = SeededCLI) -> AnomalibCLI:
    return cli([subcommand, *SMALL_MODEL, *CPU, "--data", "MVTec", *options], run=False)


def test_equal_seeds_give_equal_weights():
    fit, train = (build("--seed_everything", "3", subcommand=name) for name in ("fit", "train"))
    assert torch.equal(weights(fit), weights(train))
    assert not torch.equal(weights(fit), weights(build("--seed_everything", "4")))
    assert fit.config["fit"]["seed_everything"] == train.config["train"]["seed_everything"] == 3
    assert os.environ["PL_SEED_WORKERS"] == "1"


def test_anomalibs_own_parser_still_ignores_the_seed():
    """If this fails, anomalib was repaired and SeededCLI can go."""
    first, second = (build("--seed_everything", "3", cli=AnomalibCLI) for _ in range(2))
    assert not torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("seed", [0, 1])  # not to be taken for False and True
def test_seed_of_a_config_file(tmp_path, seed):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"seed_everything": seed}))
    expected = weights(build("--seed_everything", str(seed)))
    torch.manual_seed(99)
    assert torch.equal(weights(build("--config", str(config))), expected)


def test_without_a_seed_one_is_drawn_and_kept_and_the_processes_of_a_training_share_it(monkeypatch):
    first = build()  # leaves PL_GLOBAL_SEED, which Lightning's launcher hands to the other processes
    assert torch.equal(weights(first), weights(build()))
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert not torch.equal(weights(first), weights(build()))
    repeated = build("--seed_everything", str(first.config["fit"]["seed_everything"]))
    assert torch.equal(weights(first), weights(repeated))


def test_false_leaves_the_generators_alone():
    torch.manual_seed(5)
    cli = build("--seed_everything", "false")
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(weights(cli), weights(build("--seed_everything", "false")))
    assert torch.equal(torch.rand(1), after)
    assert cli.config["fit"]["seed_everything"] is False


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_impossible_seed(seed):
    with pytest.raises(ValueError, match="is not in bounds"):
        build("--seed_everything", seed)


def test_config_names_both_classes_and_can_be_fed_back(tmp_path, capsys):
    logging.root.setLevel(logging.INFO)  # as in a process of its own, where anomalib's logger prints what it likes
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--model", "RamFAE", "--data", "BTAD", "--data.category", "02", "--print_config"])
    assert exit_.value.code == 0
    config = tmp_path / "config.yaml"
    config.write_text(capsys.readouterr().out)
    cli = SeededCLI(["train", "--config", str(config)], run=False)
    assert (type(cli.model).__name__, type(cli.datamodule).__name__) == ("RamFAE", "BTAD")
    assert cli.datamodule.category == "02"


@pytest.mark.parametrize("arguments", [[], ["-h"]])
def test_help_shows_both_worlds(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for command in [*OWN_COMMANDS, "train", "predict", "benchmark"]:
        assert f" {command} " in shown


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anomalib-plus {__version__} (anomalib {version('anomalib')})\n"


@pytest.mark.parametrize(
    ("command", "hint"), [("trian", "Did you mean 'train'?"), ("galery", "Did you mean 'gallery'?"), ("xyz", "")]
)
def test_wrong_command(command, hint, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command])
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert f"there is no command '{command}'.{hint and ' '}{hint}\n" in said
    for known in [*OWN_COMMANDS, "train", "fit", "predict", "export", "install"]:
        assert f" {known}" in said


HELP = """
import sys
from anomalib_plus.cli import OWN_COMMANDS, main
for command in OWN_COMMANDS:
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
    print(command, "loaded", {"torch", "anomalib", "matplotlib"} & sys.modules.keys())
"""


def test_own_commands_explain_themselves_without_loading_torch():
    shown = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True).stdout
    for command in OWN_COMMANDS:
        assert f"usage: anomalib-plus {command} " in shown
        assert f"{command} loaded set()\n" in shown
    assert "``" not in shown, "markup of the docs"


@pytest.fixture
def checkpoint():
    """Of a RamFAE with other arguments than the command line will have."""
    model = RamFAE(widths=(4, 8, 8, 8))
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content["pytorch-lightning_version"] = lightning.__version__
    model.on_save_checkpoint(content)
    torch.save(content, "model.ckpt")
    return "model.ckpt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "images", "--ckpt_path", "model.ckpt"], "do not fit RamFAE.*pass the same --config"),
        (["--data", "images", "--ckpt_path", "absent.ckpt"], "absent.ckpt"),
        (["--data", "absent", "--ckpt_path", "model.ckpt"], "absent"),
        (["--data", "bad", "--ckpt_path", "model.ckpt", "--model.widths", "[4,8,8,8]"], "bad/image.png"),
        (
            ["--data", "images", "--model.augmenter", "DeletePaste", "--model.augmenter.area_ratio", "[0.5,0.1]"],
            "area_ratio must satisfy",
        ),
    ],
    ids=["other arguments", "no checkpoint", "no data", "bad data", "bad argument"],
)
def test_user_errors_are_printed_without_a_traceback(options, message, checkpoint, capfd):
    for folder in ("images", "bad"):
        Path(folder).mkdir()
    Image.new("RGB", (64, 64)).save("images/image.png")
    Path("bad/image.png").write_bytes(Path("images/image.png").read_bytes()[:60])
    assert main(["predict", *SMALL_MODEL, *CPU, *options]) == 1
    said = capfd.readouterr().err
    assert re.search(rf"(?s)\nanomalib-plus: .*{message}.*\n\(ANOMALIB_PLUS_TRACEBACK=1 shows where [^\n]*\n$", said)
    assert "Traceback" not in said


def test_an_export_without_a_checkpoint_is_refused_and_a_variable_shows_where(capfd, monkeypatch):
    arguments = ["export", *SMALL_MODEL, *CPU, "--export_type", "torch"]
    assert main(arguments) == 1
    assert "anomalib-plus: This RamFAE was neither trained" in capfd.readouterr().err
    monkeypatch.setenv("ANOMALIB_PLUS_TRACEBACK", "1")
    with pytest.raises(UntrainedModelError):
        main(arguments)


@pytest.mark.parametrize(
    "fault",
    [
        lambda: at_least(1)("x"),  # a ValueError of int in our code
        lambda: torch.rand(2) @ torch.rand(3),
        lambda: RamFAE(no_such_argument=1),
        lambda: Path("absent").read_text(),
    ],
)
def test_faults_in_the_code_keep_their_traceback(fault, monkeypatch):
    monkeypatch.setattr("anomalib_plus.cli._run_anomalib", lambda arguments, quiet: fault())
    with pytest.raises(Exception, match=r".") as raised:
        main(["train"])
    assert len(raised.traceback) > 2
