"""The notebooks in docs/examples run from the first cell to the last, on a smaller demo, and are saved with outputs."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from anomalib_plus.data.demo_surfaces import writing

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def code_cells(name: str) -> list[dict[str, Any]]:
    cells = json.loads((EXAMPLES / name).read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture
def tiny_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAIN_GOOD", "TEST_GOOD", "TEST_PER_DEFECT"):
        monkeypatch.setattr(writing, name, 5 if name == "TRAIN_GOOD" else 1)


@pytest.mark.usefixtures("tiny_demo")
def test_first_steps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("logging.root.manager.disable", 0)  # undoes logging.disable at the end
    shown: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.gcf().axes)))
    cells = code_cells("first_steps.ipynb")
    assert len(cells) == 10
    names: dict[str, Any] = {}
    sources = ["".join(cell["source"]) for cell in cells]
    assert sum(source.count("60") for source in sources) == 2
    with plt.rc_context():
        for number, source in enumerate(sources):
            exec(compile(source.replace("60", "1"), f"cell {number}", "exec"), names)
    plt.close("all")
    assert shown == [5, 10, 10]
    assert names["masks"].flatten(1).any(1).any()
    assert "largest difference of scores: 0.0" in capsys.readouterr().out


def test_the_saved_outputs_are_those_of_one_run() -> None:
    """In order, without errors, without warnings, and without paths of a machine."""
    for file in EXAMPLES.glob("*.ipynb"):
        cells = code_cells(file.name)
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
        assert all(output.get("name", "stdout") == "stdout" for output in outputs)
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
