"""docs/architecture.md names files, callbacks and rooms that exist; its example runs."""

import re
import runpy
import sys
from pathlib import Path

import pytest

import anomalib_plus

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(anomalib_plus.__file__).parent


def test_files_callbacks_and_rooms_exist() -> None:
    page = (DOCS / "architecture.md").read_text()
    files = set(re.findall(r"`((?:models|layers|training|transforms)/[\w/]+\.py)`", page))
    assert len(files) > 6
    assert [file for file in files if not (PACKAGE / file).is_file()] == []
    source = "".join(file.read_text() for file in (PACKAGE / "training").glob("*.py"))
    callbacks = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert len(callbacks) == 10
    assert [name for name in callbacks if f"class {name}(Callback)" not in source] == []
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"(\w+)\[\"\1", page)) == rooms


def test_the_example_lists_the_files_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(DOCS / "examples" / "walk_a_batch.py")
    monkeypatch.setattr(sys, "argv", [script, "RamFAE"])
    runpy.run_path(script, run_name="__main__")
    shown = capsys.readouterr().out
    batch, prediction = (int(count) for count in re.findall(r"(?:batch|prediction): (\d+) files", shown))
    row = re.findall(
        r"^\| (?:training batch|prediction) \| (\d+)", (DOCS / "architecture.md").read_text(), re.MULTILINE
    )
    assert [str(batch), str(prediction)] == row, "the page's table must be made anew"
    assert "  models/ramfae/loss.py" in shown
