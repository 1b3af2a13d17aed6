"""``anomalib-plus benchmark`` with jobs that take milliseconds."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from anomalib_plus import preset
from anomalib_plus.benchmark import command
from anomalib_plus.benchmark.command import usable_cores
from anomalib_plus.benchmark.ray_runner import write_files
from anomalib_plus.cli import main
from empty_layout import make_categories

pytestmark = pytest.mark.usefixtures("stub_jobs")


@pytest.fixture
def config(tmp_path) -> str:
    sweep = {
        "models": [
            {"class_path": "x.Good", "trainer": {"accelerator": "cpu", "precision": 32}},
            {"class_path": "x.Bad", "init_args": {"status": 9}},
        ],
        "data": [{"class_path": "x.Data", "categories": ["a"]}],
        "budget": {"max_epochs": 1},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(sweep))
    return str(tmp_path / "tiny.yaml")


def results(folder="results/benchmark/tiny") -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "results.jsonl").read_text().splitlines()]


def test_a_sweep_reports_failures_and_resumes(config, capsys):
    assert main(["benchmark", "--config", config, "--workers", "2"]) == 1
    shown = capsys.readouterr().out
    assert "2 jobs, 0 of them finished" in shown
    assert "FAILED Bad / Data a / seed 0: crash" in shown
    assert "1 of 2 jobs failed" in shown
    assert {record["model"]["label"]: record["status"] for record in results()} == {"Good": "ok", "Bad": "failed"}

    assert main(["benchmark", "--config", config]) == 1
    assert "2 jobs, 2 of them finished" in capsys.readouterr().out
    assert len(results()) == 2
    assert main(["benchmark", "--config", config, "--retry-failed"]) == 1
    assert [record["status"] for record in results()].count("failed") == 2


def test_an_interrupted_sweep_is_reported_with_its_full_count(config, capsys, monkeypatch):
    run_local = command.run_local

    def interrupted(jobs, *arguments, **options):
        run_local(jobs[:1], *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_local", interrupted)
    assert main(["benchmark", "--config", config, "--models", "good", "--seeds", "1", "2"]) == 130
    assert main(["benchmark", "--config", config]) == 130  # another sweep into the folder adds its jobs
    capsys.readouterr()
    assert main(["report", "results/benchmark/tiny", "-o", "report.md"]) == 0
    assert "2 of 4 planned jobs have no result" in capsys.readouterr().err
    text = Path("report.md").read_text()
    assert "- planned jobs: 4" in text
    for row in ("| Good | Data | a | 2 | 1 |", "| Bad | Data | a | 0 | 1 |"):
        assert row in text


def test_brackets_in_names_are_no_markup(config, capsys):
    Path(config).write_text(Path(config).read_text().replace("- a\n", "- '[/odd]'\n"))
    assert main(["benchmark", "--config", config, "--dry-run"]) == 0
    assert main(["benchmark", "--config", config, "--models", "good"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Data [/odd]") == 3


def test_options_choose_and_change(config):
    choice = "--models good --seeds 4 5 --max-steps 7 --image-size 32 48 --accelerator gpu --output here"
    assert main(["benchmark", "--config", config, *choice.split()]) == 0
    found = results("here")
    assert [record["seed"] for record in found] == [4, 5]
    assert found[0]["trainer"] == {"accelerator": "gpu", "precision": 32}
    assert found[0]["budget"] == {"max_epochs": None, "max_steps": 7, "max_seconds": None, "max_cpu_seconds": None}
    assert found[0]["protocol"]["image_size"] == found[0]["protocol"]["map_size"] == [32, 48]


def test_a_dry_run_writes_nothing(config, capsys):
    assert main(["benchmark", "--config", config, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to do") == 2
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "Best"], "no model best"),
        (["--data.root", "nowhere", "--data.categories", "a"], "There is no folder nowhere"),
        (["--data.root", ".", "--data.categories", "a"], "There is no category a; available: none"),
        (["--image-size", "0", "64"], "sizes must be positive"),
        (["--max-seconds", "nan"], "limits must be positive and finite"),
    ],
)
def test_mistakes_end_with_one_message(config, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["benchmark", "--config", config, *arguments])
    assert message in capsys.readouterr().err


def test_reproduce_runs_what_is_missing_and_prints_the_table(tmp_path, capsys):
    root = str(make_categories(tmp_path, "pill", "screw"))
    command = ["reproduce", "fear", "--table", "1", "--data.root", root, "--max-epochs", "1", "--seeds", "97"]
    for expected in ("2 jobs, 0 of them finished", "2 jobs, 2 of them finished"):
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert "4 of 6 cells need categories that are not in" in shown
        assert expected in shown
        assert re.search(r"pill +fear_image_auroc_percent +92\.40 +97\.00 +\+4\.60", shown)
    assert len(results("results/reproduce/fear")) == 2
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--data.category", "pil"])
    error = capsys.readouterr().err
    assert f"There is no category pil in {tmp_path}; available: pill, screw." in error
    assert "fetch" not in error


def test_one_category_of_a_table_runs_by_a_preset_and_is_printed_as_that(tmp_path, capsys):
    root = str(make_categories(tmp_path, "screw"))
    command = ["reproduce", "fear", "--table", "1", "--data.root", root, "--seeds", "97", "--preset"]
    assert main([*command, "small", "--set", "segmentation_width=4"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"paper +preset small/fear +difference", shown)
    assert re.search(r"screw +fear_image_auroc_percent +98\.10 +97\.00 +-1\.10", shown)
    assert re.search(r"pill +fear_image_auroc_percent +92\.40 +no data +-", shown)
    assert "The preset small/fear is not the paper's recipe" in shown
    (record,) = results("results/reproduce/small-fear")
    settings = preset("small/fear")["model"]["init_args"]
    assert record["model"]["arguments"]["reconstruction_width"] == settings["reconstruction_width"]
    assert record["model"]["arguments"]["segmentation_width"] == 4
    assert (record["budget"]["max_seconds"], record["budget"]["max_epochs"]) == (600.0, None)
    assert (record["protocol"]["image_size"], record["data"]["arguments"]["train_batch_size"]) == ([128, 128], 8)

    make_categories(tmp_path, "pill")
    assert main([*command, "small", "--set", "segmentation_width=4", "--categories", "screw"]) == 0
    shown = capsys.readouterr().out
    assert "1 job, 1 of them finished" in shown
    assert re.search(r"pill +fear_image_auroc_percent +92\.40 +not run +-", shown)
    wrong = {"no preset 'large/fear'": ["large"], "--print-config prints the recipe": ["small", "--print-config"]}
    for message, options in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            main([*command, *options])
        assert message in capsys.readouterr().err


def test_without_ray_the_way_out_is_named(config, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match="2"):
        main(["benchmark", "--config", config, "--runner", "ray"])
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.png", "../x.png", "/x.png", "a/../../x.png"])
def test_images_from_a_cluster_are_written_into_their_folder_only(name, tmp_path):
    write_files({name: b"123"}, tmp_path / "a" / "b")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")] == ["a/b/x.png"]
    assert (tmp_path / "a" / "b" / "x.png").read_bytes() == b"123"


def test_cores():
    assert 1 <= usable_cores() <= os.cpu_count()
