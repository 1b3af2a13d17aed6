"""``anomalib-plus demo``: images, and an inspector that decides on them."""

import csv
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from anomalib_plus import demo
from anomalib_plus.cli import OWN_COMMANDS, main
from anomalib_plus.data.demo_surfaces import writing


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "TEST_GOOD", 3)
    monkeypatch.setattr(writing, "TEST_PER_DEFECT", 1)


def test_the_inspector_decides_on_the_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "washers", "--good", "2"]) == 0
    assert "anomalib-plus score washers/inspector washers/test" in capsys.readouterr().out
    assert main(["demo", "washers", "--good", "2"]) == 0  # again
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "washers", "--good", "3"])
    assert len(list(Path("washers/train/good").iterdir())) == 2
    assert sorted(file.name for file in Path("washers/inspector").iterdir()) == [
        "inspector.json",
        "model.bin",
        "model.xml",
    ]
    assert main(["score", "washers/inspector", "washers/test", "--recursive", "--output", "scores.csv"]) == 1
    with Path("scores.csv").open(newline="") as file:
        decisions = {Path(row["file"]).parent.name: row["decision"] for row in csv.DictReader(file)}
    assert {"good": "accept", "scratch": "reject", "contamination": "reject"}.items() <= decisions.items()


def test_other_categories_have_no_inspector() -> None:
    assert main(["demo", "bricks", "--category", "brick", "--good", "1"]) == 0
    assert not Path("bricks/inspector").exists()


@pytest.mark.parametrize("options", [["folder"], ["new", "--good", "0"]])
def test_wrong_arguments_write_nothing(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    with pytest.raises(SystemExit) as exit_:
        main(["demo", *options])
    assert exit_.value.code == 2
    assert "Choose another folder" in (said := capsys.readouterr().err) or "not positive" in said
    assert [file.name for file in Path().iterdir()] == ["folder"]


def test_categories_are_those_of_the_datamodule() -> None:
    assert demo._NAMES == writing.CATEGORIES


@pytest.mark.parametrize("command", ["demo", "build", "score"])
def test_the_readme_s_first_commands_parse(command: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", readme, re.DOTALL))
    found = re.findall(rf"anomalib-plus {command} ([^&\n]*)", blocks)
    assert found
    for arguments in found:
        import_module(OWN_COMMANDS[command].module)._parser().parse_args(shlex.split(arguments))
