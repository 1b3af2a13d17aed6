"""Markdown shows the tables as they are; CSV holds every figure unrounded."""

import csv
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomalib_plus.report import read_store
from anomalib_plus.report.markdown import render_markdown
from anomalib_plus.report.spreadsheet import render_csv
from anomalib_plus.report.summary import Summary
from synthetic_results import failed, record, write_plan, write_store

PAPERS = {("Fast", "bolt", "image_auroc"): 0.95}


def test_markdown_tables(summary: Summary) -> None:
    text = render_markdown(summary, PAPERS, "Benchmark")
    parts = ["Leaderboard", "Categories", "Paper against measured", "Costs", "Failed jobs", "Protocol"]
    assert re.findall(r"^#+ .*", text, re.M) == ["# Benchmark", *(f"## {part}" for part in parts)]
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    figure, _ = summary.over_categories("Parts", "Classic (loss repaired)", "aupro")
    (row,) = [line for line in text.splitlines() if line.startswith("| Classic (loss repaired) | 2 ")][:1]
    assert f"{100 * figure.mean:.1f} ± {100 * figure.std:.1f}" in row
    assert "- Careful on Parts nut, seed 0: out\\_of\\_memory, CUDA out of memory" in text
    assert "- mask rule: nearest, > 0.5" in text
    assert "Paper against" not in render_markdown(summary, {}, "Benchmark")
    board = text.partition("## Leaderboard")[2].partition("| ---")[0]
    assert re.search(r"Parts: TeacherStudent has the highest .* points above Classic \(loss repaired\)", board)


def test_markdown_keeps_what_records_say_in_its_cell(tmp_path: Path) -> None:
    died = failed("A|B\n# <b>*x*", "bolt", 0, "first\n\n# second")
    store = read_store(write_store(tmp_path, [record("A|B\n# <b>*x*"), died]))
    text = render_markdown(Summary(store), {}, "Benchmark")
    assert "| A\\|B # &lt;b>\\*x\\* |" in text
    assert "out\\_of\\_memory, first # second\n" in text
    assert "\n# " not in text


def test_csv_has_every_figure(summary: Summary) -> None:
    table = pd.read_csv(StringIO(render_csv(summary, PAPERS)))
    found = table.set_index(["kind", "data", "model", "category", "name"]).sort_index()
    values = [each["metrics"]["image_auroc"] for each in summary.finished("Parts", "Fast", "bolt")]
    row = found.loc["metric", "Parts", "Fast", "bolt", "image_auroc"]
    assert row["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert row["std"] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert (row["seeds"], row["paper"]) == (3, 0.95)
    assert row["gap"] == pytest.approx(np.mean(values) - 0.95)
    average = found.loc["metric average", "Fabrics", "Classic", "2 of 2", "aupro"]
    assert average["mean"] == pytest.approx(summary.over_categories("Fabrics", "Classic", "aupro")[0].mean)
    assert found.loc["cost", "Parts", "Fast", "bolt", "parameters"]["mean"] == 1_250_000
    died = table[table["kind"] == "failure"]
    assert list(died["model"]) == ["Careful", "Hopeless", "Hopeless", "Hopeless"]
    assert set(died["message"]) == {"CUDA out of memory", "loss is NaN at step 12"}


def test_csv_of_a_single_seed_has_no_spread(tmp_path: Path) -> None:
    table = pd.read_csv(StringIO(render_csv(Summary(read_store(write_store(tmp_path, [record()]))), {})))
    assert table["std"].isna().all()
    assert not table["mean"].isna().any()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_has_no_formulas(start: str, tmp_path: Path) -> None:
    name = f"{start}HYPERLINK(1)"
    made = record(name, name, data=name, variant=name, metrics={"image_auroc": 0.5})
    store = read_store(write_store(tmp_path, [made, failed(name, name, 1, name)]))
    with StringIO(render_csv(Summary(store), {}), newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert sum("HYPERLINK(1)" in cell for cell in cells) >= 6
    assert not [cell for cell in cells if cell.startswith(start)]


def test_what_is_missing_stands_in_markdown_and_csv(tmp_path: Path) -> None:
    made = [record(seed=seed) for seed in range(3)]
    summary = Summary(read_store(write_plan(write_store(tmp_path, made[:1]), made)))
    text = render_markdown(summary, {}, "Benchmark")
    assert "2 of 3 planned jobs have no result" in text.partition("## Leaderboard")[0]
    assert "| Fast | Parts | bolt | 1, 2 | 2 |" in text.partition("## Missing jobs")[2]
    table = pd.read_csv(StringIO(render_csv(summary, {})))
    assert list(table[table["kind"] == "missing"]["seeds"]) == [1, 2]
