"""``anomalib-plus report``: what it writes, what it says, and how it exits."""

import json
from pathlib import Path

import pytest

from anomalib_plus.cli import main as run_command
from anomalib_plus.report.command import main
from synthetic_results import failed, record, write_store


@pytest.fixture
def small_results(tmp_path: Path) -> Path:
    return write_store(tmp_path / "results", [record(seed=seed) for seed in range(2)])


def test_every_format_at_once(small_results: Path, capsys: pytest.CaptureFixture) -> None:
    outputs = [argument for name in ("new/report.html", "report.MD", "report.csv") for argument in ("-o", name)]
    assert run_command(["report", str(small_results), *outputs, "--title", "My <title>"]) == 0
    assert "<h1>My &lt;title></h1>" in Path("new/report.html").read_text().replace("&gt;", ">")
    assert Path("report.MD").read_text().startswith("# My &lt;title>\n")
    assert Path("report.csv").read_text().startswith("data,model,category,kind,name,mean,std,seeds,")
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["new/report.html", "report.MD", "report.csv"]
    assert printed.err == ""


def test_failed_jobs_and_damaged_lines_are_told_and_no_error(
    small_results: Path, capsys: pytest.CaptureFixture
) -> None:
    with (small_results / "results.jsonl").open("a") as file:
        file.write('{"format": 1, "torn')
    assert main([str(small_results), "-o", "report.html", "-o", "report.md"]) == 0
    assert f"damaged lines of {small_results}/results.jsonl were not read: 3" in capsys.readouterr().err
    for name in ("report.html", "report.md"):
        assert "not read: 3." in Path(name).read_text()
    only_failed = write_store(Path("failed"), [failed("A", "bolt", 0)])
    assert main([str(only_failed), "-o", "report.html"]) == 0
    assert "1 of 1 job failed; the report lists them" in capsys.readouterr().err
    page = Path("report.html").read_text()
    assert "CUDA out of memory" in page
    assert "<p>1 of 1 job failed" in page


def test_names_that_are_no_utf_8_stand_in_the_report(tmp_path: Path) -> None:
    odd = record() | {"status": "failed", "error": {"kind": "exception", "message": "no image: \udcff.png"}}
    results = write_store(tmp_path / "results", [record(category="caf\udce9"), odd])
    outputs = [argument for name in ("report.html", "report.md", "report.csv") for argument in ("-o", name)]
    assert main([str(results), *outputs]) == 0
    for name in ("report.html", "report.csv"):
        assert r"caf\udce9" in Path(name).read_text()
        assert r"\udcff.png" in Path(name).read_text()
    assert "udcff.png" in Path("report.md").read_text()


def test_missing_images_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    entry = {"kind": "best", "path": "a.png", "score": 1.0, "label": 1, "files": {"input": "artifacts/a.png"}}
    results = write_store(tmp_path / "results", [record() | {"gallery": [entry]}])
    assert main([str(results), "-o", "report.html"]) == 0
    assert "1 image of the gallery is missing" in capsys.readouterr().err


def test_papers_are_compared(small_results: Path) -> None:
    published = small_results / "published.json"
    numbers = [{"model": "models.Fast", "category": "bolt", "metric": "image_auroc", "value": 0.5}]
    published.write_text(json.dumps(numbers))
    main([str(small_results), "-o", "with.md"])
    assert "| Fast | bolt | image AUROC | 50.0 |" in Path("with.md").read_text()
    published.unlink()  # as in results of earlier versions
    main([str(small_results), "-o", "without.md"])
    assert "Paper against" not in Path("without.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "-o", "report.html"], "There is no missing/results.jsonl. Give the results folder"),
        (["empty", "-o", "report.html"], "is empty: no job has finished yet"),
        (["results", "-o", "report.pdf"], "report.pdf has none of the suffixes .html, .md, .csv"),
        (["results"], "required: -o/--output"),
        (["results", "-o", "taken.html"], "taken.html"),
        (["results", "-o", "report.html", "--rank-by", "beauty"], "the metric beauty; available: image_auroc"),
        (["results", "-o", "report.html", "--examples", "-1"], "-1 is less than 0"),
        (["results", "-o", "report.html", "--max-examples", "-1"], "-1 is less than 0"),
        (["results", "-o", "report.html", "--picture-size", "0"], "0 is less than 1"),
    ],
)
def test_wrong_arguments_are_named(
    small_results: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    Path("taken.html").mkdir()
    Path("empty").mkdir()
    Path("empty/results.jsonl").touch()
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
