"""The examples of docs/inspector.md run as they stand there."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_plus.cli import main
from anomalib_plus.inspector import Inspector
from page_code import blocks, page, run
from tiny_bundle import write_tiny_bundle

PAGE = "inspector.md"


@pytest.fixture(autouse=True)
def _bundle_and_parts(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "inspector")
    for folder in ("parts", "inbox"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((20, 30, 3), 255, np.uint8)).save(tmp_path / folder / "0001.png")


def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    Path("weights").mkdir()
    shutil.copytree("inspector", "weights/onnx")
    for block in blocks(PAGE, "python"):
        run(block, PAGE)
    assert capsys.readouterr().out == "reject 1.0 0.01 (20, 30)\n"
    assert Inspector.load("weights/onnx").info.supported_rate == 0.2


def test_commands() -> None:
    lines = [line for block in blocks(PAGE, "bash") for line in block.splitlines() if line.startswith("anomalib-plus ")]
    assert [main(shlex.split(line)[1:]) for line in lines] == [1, 0]
    for name in ("results.csv", "results.jsonl", "overlays"):
        assert f"`{name}" in page(PAGE)
        assert (Path("outbox") / name).exists()
    columns = Path("scores.csv").read_text().splitlines()[0].split(",")
    assert [name for name in columns if f"`{name}`" not in page(PAGE)] == []
    assert Path("overlays/parts/0001.png.png").is_file()
