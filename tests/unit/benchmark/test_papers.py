"""Tables of the papers, and the agreement of recipes with the tables, the models and their configs."""

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import anomalib_plus.models
from anomalib_plus.benchmark import reproduce
from anomalib_plus.benchmark.papers import (
    KINDS,
    cells,
    load_recipe,
    load_recipes,
    load_table,
    paper_names,
    published,
    save_published,
)
from anomalib_plus.benchmark.plan import PlanError, expand
from anomalib_plus.benchmark.protocol import METRICS
from anomalib_plus.benchmark.record import COSTS
from empty_layout import make_categories

CONFIGS = Path(__file__).parents[3] / "configs"
ENTRIES = [
    (paper, name, kind)
    for paper in paper_names()
    for kind in KINDS
    for name in load_recipes()[paper].get(f"{kind}s", ())
]
TABLES, FIGURES = ([entry[:2] for entry in ENTRIES if entry[2] == kind] for kind in ("table", "figure"))
LANDED = {name.lower(): getattr(anomalib_plus.models, name) for name in anomalib_plus.models.__all__}


@pytest.mark.parametrize(("paper", "number"), TABLES)
def test_table(paper, number):
    table, found = load_table(paper, number), cells(paper, number)
    assert len(table) > 0
    assert found
    assert all(cell.metric in (*METRICS, *COSTS) and cell.categories and cell.variants for cell in found)
    assert all(cell.paper is None or 0.05 < cell.paper <= 1 or cell.metric in COSTS for cell in found)
    assert len({(cell.row, cell.column) for cell in found}) == len(found)
    recipe = load_recipe(paper, number)
    assert "rows" not in recipe or len(recipe["rows"]) == len(table)


@pytest.mark.parametrize(
    ("paper", "number", "row", "column", "value"),
    [
        ("ramfae", 2, "full", "pixel_auroc_fraction", 0.985),
        ("ramfae", 3, "avg", "ramfae_msgms_map_pixel_auroc_fraction", 0.942),
        ("ramfae", 4, "cable", "ramfae_pixel_auroc_fraction", 0.940),
        ("ramfae", 5, "7", "ramfae_auroc_fraction", 0.981),
        ("fear", 2, "pill", "fear_pixel_ap_percent", 0.637),
        ("fear", 3, "02", "fear_pixel_auroc_percent", 0.918),
        ("astmfr", 1, "carpet", "Ours", None),
        ("astmfr", 2, "Ours", "pro", 0.943),
        ("astmfr", 3, "grid", "large_gt20pct", None),
        ("astmfr", 5, "full", "params_M", 33.2e6),
        ("tsdn", 1, "Object", "TSDN", 0.901),
        ("tsdn", 2, "Metal nut", "TSDN_crosschecked", 0.926),
        ("tsdn", 4, "full", "Pill", 0.934),
        ("rbae", 4, "Wood", "RB-AE", 0.9355),
    ],
)
def test_cell_has_the_printed_number(paper, number, row, column, value):
    (cell,) = [cell for cell in cells(paper, number) if (cell.row, cell.column) == (row, column)]
    assert cell.paper == (None if value is None else pytest.approx(value))


def test_each_paper_has_the_metric_and_the_categories_that_it_reports():
    by_name = {(cell.row, cell.column): cell for cell in cells("ramfae", 4)}
    best = by_name["cable", "ramfae_pixel_auroc_fraction"]
    assert best.metric == "pixel_auroc_per_image"
    assert best.variants == {"gmsd": {"anomaly_map": "gmsd"}, "ssim": {"anomaly_map": "ssim"}, "msgms": {}}
    assert len(by_name["avg", "ramfae_pixel_auroc_fraction"].categories) == 15
    averages = {cell.row: cell.categories for cell in cells("tsdn", 2) if cell.row.startswith("avg")}
    assert {row: len(categories) for row, categories in averages.items()} == {"avg_tex": 5, "avg_obj": 10}
    assert "metal_nut" in averages["avg_obj"]


@pytest.mark.parametrize(("paper", "name", "kind"), ENTRIES)
def test_models_have_the_arguments_and_each_name_stands_for_one_training(paper, name, kind):
    parameters, by_name = set(inspect.signature(LANDED[paper]).parameters), {}
    for cell in cells(paper, name, kind):
        for variant, arguments in cell.variants.items():
            assert set(arguments) <= parameters
            assert by_name.setdefault(variant.lower(), arguments) == arguments, variant


@pytest.mark.parametrize(("paper", "number"), FIGURES)
def test_figures_have_rows_without_printed_numbers(paper, number):
    found = cells(paper, number, "figure")
    assert len({(cell.row, cell.column) for cell in found}) == len(found) >= 3
    assert all(cell.paper is None and cell.metric in METRICS and cell.categories for cell in found)


def test_columns_of_our_method_that_are_not_run_have_a_reason():
    recipe, table = load_recipe("astmfr", 5), load_table("astmfr", 5)
    assert {*recipe["columns"], *recipe["not_run"]} == set(table[0]) - {"student", "notes"}
    assert all(len(reason) > 20 for reason in recipe["not_run"].values())


@pytest.mark.parametrize("paper", LANDED)
def test_recipe_agrees_with_the_config_of_the_model(paper):
    config, recipe = yaml.safe_load((CONFIGS / "models" / f"{paper}.yaml").read_text()), load_recipes()[paper]
    assert config["trainer"]["max_epochs"] == recipe["max_epochs"]
    assert config["data"]["init_args"]["train_batch_size"] == recipe["train_batch_size"]
    size = LANDED[paper].configure_pre_processor().transform.size
    assert list(size) == recipe.get("image_size", [256, 256])


def test_mnist_agrees_with_its_config():
    arguments = yaml.safe_load((CONFIGS / "models" / "mnist_ramfae.yaml").read_text())["model"]["init_args"]
    recipe = load_recipe("ramfae", 5)
    assert {name: arguments[name] for name in recipe["init_args"]} == recipe["init_args"]
    assert arguments["pre_processor"]["init_args"]["transform"]["init_args"]["size"] == recipe["image_size"]


@pytest.mark.parametrize(
    ("paper", "number", "kind"), [("rbae", 1, "table"), ("ramfae", 1, "table"), ("rbae", 3, "figure")]
)
def test_what_cannot_be_reproduced_is_said(paper, number, kind):
    with pytest.raises(PlanError, match="no"):
        load_recipe(paper, number, kind)


def test_tables_and_figures_are_listed_and_a_figure_runs(tmp_path, capsys):
    assert reproduce.main(["astmfr"]) == 0
    listed = capsys.readouterr().out
    assert "table 9: " in listed
    assert "figure 6: " in listed
    root = make_categories(tmp_path / "mine", "cube")
    assert reproduce.main(["astmfr", "--figure", "6", "--data.root", str(root), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("to do") == 5
    assert "mask_rate=0.9" in shown
    with pytest.raises(SystemExit):
        reproduce.main(["astmfr", "--figure", "6", "--table", "5"])


def test_missing_data_give_one_sentence(capsys, tmp_path):
    assert reproduce.main(["ramfae", "--table", "4", "--data.root", str(tmp_path)]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "MVTec AD" in shown
    assert str(tmp_path) in shown


def jobs_of(paper, number, chosen, root, **changes):
    sweep = reproduce.build_sweep(load_recipe(paper, number), chosen, "mvtec", root, changes)
    return reproduce.needed_jobs(expand(sweep), chosen)


def test_only_possible_cells_run(tmp_path):
    make_categories(tmp_path, "wood", "zipper")
    chosen = reproduce.possible_cells(cells("tsdn", 4), ["wood", "zipper"], own_data=False)
    assert {cell.column for cell in chosen} == {"Zipper", "Wood"}
    assert reproduce.possible_cells(cells("fear", 4), ["zipper"], own_data=False) == []
    jobs = jobs_of("tsdn", 4, chosen, tmp_path, sigma=2.0)
    assert len(jobs) == 6 * 2
    assert {job.model["arguments"]["sigma"] for job in jobs} == {2.0}
    assert {tuple(job.protocol["image_size"]) for job in jobs} == {(352, 352)}


def test_own_data_run_every_row_and_compare_nothing(tmp_path, capsys):
    root = make_categories(tmp_path / "mine", "cube")
    chosen = reproduce.possible_cells(cells("fear", 4), ["cube"], own_data=True)
    assert len(chosen) == 4 * 3
    assert all(cell.paper is None and cell.categories == ("cube",) for cell in chosen)
    assert len(reproduce.possible_cells(cells("ramfae", 3), ["cube"], own_data=True)) == 3
    assert reproduce.main(["fear", "--table", "4", "--data.root", str(root), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to do") == 4


def test_a_category_without_defects_of_a_size_is_left_out_of_the_average(tmp_path):
    chosen = [cell for cell in cells("astmfr", 3) if cell.column == "large_gt20pct"]
    jobs = jobs_of("astmfr", 3, chosen, tmp_path)
    values = {"screw": None, "bottle": 0.9}
    records = {
        job.job_id: {"status": "ok", "metrics": {"image_auroc_large": values.get(job.data["category"], 0.5)}}
        for job in jobs
    }
    numbers = {cell.row: reproduce.our_number(cell, jobs, records) for cell in chosen}
    (average,) = [row for row in numbers if row.lower().startswith("av")]
    assert numbers[average] == pytest.approx((0.9 + 13 * 0.5) / 14)
    assert (numbers["screw"], numbers["bottle"]) == (None, 0.9)
    records[jobs[0].job_id]["status"] = "failed"
    (average_cell,) = [cell for cell in chosen if cell.row == average]
    assert reproduce.our_number(average_cell, jobs, records) is None
    del records[jobs[0].job_id]
    assert reproduce.our_number(average_cell, jobs, records) is None


def test_our_numbers_and_their_differences(tmp_path, capsys):
    chosen = [cell for cell in cells("ramfae", 4) if cell.row in ("wood", "bottle")]
    jobs = jobs_of("ramfae", 4, chosen, tmp_path)
    by_map = {"gmsd": 0.8, "ssim": 0.95, "msgms": 0.9}
    records = {}
    for job in (job for job in jobs if job.data["category"] == "wood"):
        value = by_map[job.model["arguments"].get("anomaly_map", "msgms")]
        records[job.job_id] = {"status": "ok", "metrics": {"pixel_auroc_per_image": value}}
    numbers = [reproduce.our_number(cell, jobs, records) for cell in chosen]
    assert numbers == [None, 0.95]
    reproduce.print_cells(chosen, numbers, Console(width=120))
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"bottle .*0\.952 +- +-", lines[1])
    assert re.search(r"wood .*0\.902 +0\.950 +\+0\.048", lines[2])


def test_trained_parameters_are_compared_in_millions(tmp_path, capsys):
    chosen = [cell for cell in cells("astmfr", 5) if cell.row == "full" and cell.column != "pixel_auroc"]
    jobs = jobs_of("astmfr", 5, chosen, tmp_path)
    record = {"status": "ok", "metrics": {"image_auroc": 0.98}, "costs": {"trainable_parameters": 33_211_200}}
    numbers = [reproduce.our_number(cell, jobs, {job.job_id: record for job in jobs}) for cell in chosen]
    reproduce.print_cells(chosen, numbers, Console(width=120))
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert re.search(r"33\.2 +33\.2 +\+0\.0", lines["params_M"])
    assert re.search(r"98\.70 +98\.00 +-0\.70", lines["image_auroc"])


def test_published_numbers_are_those_of_full_models():
    numbers = published(load_recipes()[paper]["class_path"] for paper in paper_names())
    assert all(0 < entry["value"] <= 1 for entry in numbers)
    found = {(e["model"].rpartition(".")[2], e["category"], e["metric"]): e["value"] for e in numbers}
    assert len(found) == len(numbers) > 100
    assert found["RamFAE", "hazelnut", "pixel_auroc_per_image"] == 0.976, "of Table 3, not of the ablation"
    assert found["FEAR", "01", "image_auroc"] == pytest.approx(0.973)
    assert published(["anomalib.models.Padim"]) == []


def test_a_sweep_leaves_the_published_numbers_of_its_models(tmp_path):
    class_path = load_recipes()["ramfae"]["class_path"]
    save_published(tmp_path, ["anomalib.models.Padim", class_path])
    assert json.loads((tmp_path / "published.json").read_text()) == published([class_path])
    assert [file.name for file in tmp_path.iterdir()] == ["published.json"]
