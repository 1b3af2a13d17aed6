"""``anomalib-plus reproduce PAPER --table N``: train a paper's models on your data, compare with its table.

``--figure N`` runs the rows of a figure, ``--variant NAME`` a setting that is not in the paper; both have no printed
numbers to compare with. ``--print-config`` runs nothing and prints the training of a row as a configuration for
``anomalib train --config``.

The trainings follow the paper's recipe; a whole table takes GPU days. --max-epochs, --image-size and --set make them
smaller, and --preset small takes a preset instead, but then they do not reproduce the paper. Tables of a paper share
their results, and the same command resumes. Only cells run whose categories are in the folder; --categories takes some
of them. Folders in MVTec layout with other categories work too, without numbers to compare with.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from anomalib_plus.benchmark.cell_values import our_number, print_cells, title
from anomalib_plus.benchmark.command import add_run_options, apply_run_options, list_jobs, run_jobs
from anomalib_plus.benchmark.configuration import choose_training, configuration, to_yaml
from anomalib_plus.benchmark.folders import find_categories
from anomalib_plus.benchmark.papers import (
    KINDS,
    Cell,
    Kind,
    category_name,
    cells,
    load_recipe,
    load_recipes,
    paper_names,
)
from anomalib_plus.benchmark.plan import Budget, DataEntry, Job, ModelEntry, Sweep, expand
from anomalib_plus.benchmark.progress import printable
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.recipe_preset import with_preset
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.counts import counted


def available_categories(kind: str, root: Path) -> list[str]:
    """Return the categories below a folder for a kind of data: ``mvtec``, ``btad`` or ``mnist``."""
    if kind == "mnist":
        return [str(digit) for digit in range(10)] if (root / "MNIST" / "raw").is_dir() else []
    if kind == "btad" and root.is_dir():
        return sorted(folder.name for folder in root.iterdir() if (folder / "train" / "ok").is_dir())
    try:
        return find_categories(root)
    except PlanError:
        return []


def fetch_advice(kind: str, root: Path) -> str:
    """Return a sentence that tells which data to download, and where to put them."""
    data = load_recipes()["data"][kind]
    return (
        f"There are no data in {root}: download {data['fetch']} into it, or pass its location by --data.root FOLDER "
        "(any folder of categories in MVTec layout works)."
    )


def chosen_categories(available: Sequence[str], names: Sequence[str], root: Path) -> list[str]:
    """Return the available categories with the given names; a PlanError if one is not available."""
    missing = [name for name in names if name not in available]
    if missing:
        msg = f"There is no category {', '.join(missing)} in {root}; available: {', '.join(available)}."
        raise PlanError(msg)
    return [name for name in available if name in names]


def possible_cells(wanted: Sequence[Cell], available: Sequence[str], own_data: bool) -> list[Cell]:
    """Return the cells whose categories are all available.

    If the categories are not the paper's (``own_data``), each cell's arguments run on all of them, and nothing is
    compared.
    """
    if not own_data:
        return [cell for cell in wanted if set(cell.categories) <= set(available)]
    found: dict[tuple, Cell] = {}
    for cell in wanted:
        column = cell.metric if category_name(cell.column) in cell.categories else cell.column
        for category in available:
            name = f"{cell.row}; {category}" if cell.row in cell.variants else category
            key = (name, column, str(cell.variants))
            found.setdefault(key, replace(cell, row=name, column=column, paper=None, categories=(category,)))
    return list(found.values())


def build_sweep(
    recipe: Mapping[str, Any], chosen: Sequence[Cell], kind: str, root: Path, changes: Mapping[str, Any]
) -> Sweep:
    """Return the trainings that cells need, as a sweep."""
    data = load_recipes()["data"][kind]
    variants = {title(variant): variant for cell in chosen for variant in cell.variants.values()}
    categories = list(dict.fromkeys(category for cell in chosen for category in cell.categories))
    return Sweep(
        models=tuple(
            ModelEntry(recipe["class_path"], init_args={**variant, **changes}, variant=title)
            for title, variant in variants.items()
        ),
        data=(
            DataEntry(
                data["class_path"],
                categories=tuple(int(name) if kind == "mnist" else name for name in categories),
                init_args={"root": str(root), "train_batch_size": recipe["train_batch_size"], "num_workers": 0},
                label=root.resolve().name,
                category_argument=data.get("category_argument", "category"),
            ),
        ),
        budget=Budget(max_epochs=recipe["max_epochs"]),
        protocol=Protocol(image_size=(recipe["image_size"][0], recipe["image_size"][1])),
    )


def needed_jobs(jobs: Sequence[Job], chosen: Sequence[Cell]) -> list[Job]:
    """Return the jobs of the sweep that the cells need; not every variant needs every category."""
    pairs = {
        (title(variant), category)
        for cell in chosen
        for variant in cell.variants.values()
        for category in cell.categories
    }
    return [job for job in jobs if (job.model["variant"], job.data["category"]) in pairs]


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        msg = f"{text!r} is not NAME=VALUE"
        raise argparse.ArgumentTypeError(msg)
    return name, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-plus reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paper", choices=paper_names(), help="name of the paper's model")
    entry = parser.add_mutually_exclusive_group()
    entry.add_argument("--table", type=int, help="number of a table (default: list tables, figures and variants)")
    entry.add_argument("--figure", type=int, help="number of a figure; it has no printed numbers")
    entry.add_argument("--variant", metavar="NAME", help="a setting that is not in the paper")
    parser.add_argument("--print-config", action="store_true", help="print a row as a file for anomalib train --config")
    parser.add_argument("--row", metavar="NAME", help="the row of --print-config")
    parser.add_argument("--data.root", dest="root", type=Path, metavar="FOLDER", help="folder of the categories")
    names = ("--categories", "--data.category", "--data.categories")
    parser.add_argument(*names, dest="categories", nargs="+", metavar="NAME", help="categories to take")
    parser.add_argument(
        "--own-data", action="store_true", help="do not compare, although categories have names of the paper's"
    )
    parser.add_argument(
        "--preset", metavar="FOLDER", help="take the model's preset, e.g. small, not the paper's recipe"
    )
    parser.add_argument("--set", dest="changes", type=_change, action="append", default=[], metavar="NAME=VALUE",
                        help="change an argument of the model, e.g. --set widths=[8,16,32,64]")  # fmt: skip
    add_run_options(parser)
    return parser


def _list_entries(paper: str, console: Console) -> None:
    for kind in KINDS:
        for name, entry in load_recipes()[paper].get(f"{kind}s", {}).items():
            console.print(f"{kind} {name}: {entry['title']}", highlight=False, soft_wrap=True)


def _print_config(
    entry: tuple[str, int | str, Kind], recipe: Mapping[str, Any], wanted: Sequence[Cell], options: argparse.Namespace
) -> None:
    paper, name, kind = entry
    arguments, category = choose_training(wanted, options.row, options.categories)
    data = recipe["data"]
    cell = replace(wanted[0], variants={"": arguments}, categories=(category,))
    root = options.root or Path(load_recipes()["data"][data]["root"])
    sweep = apply_run_options(build_sweep(recipe, [cell], data, root, dict(options.changes)), options)
    row = f", row {options.row}" if options.row else ""
    title = f"{paper}, {kind} {name}{row}: {recipe['title']}"
    sys.stdout.write(to_yaml(configuration(sweep, recipe), title))


def main(arguments: Sequence[str]) -> int:
    """Run the missing jobs and print the table, or print the configuration of a row.

    Returns:
        The exit status: 0 if every job succeeded, 1 if one failed or there are no data, 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console(markup=False)
    chosen: list[tuple[Kind, int | str]] = [(kind, getattr(options, kind)) for kind in KINDS if getattr(options, kind)]
    if (options.print_config or options.row) and not (options.print_config and chosen):
        parser.error("--print-config needs --table, --figure or --variant, and --row needs --print-config.")
    if options.print_config and options.preset:
        parser.error("--print-config prints the recipe; anomalib-plus config prints the path of a preset.")
    if not chosen:
        _list_entries(options.paper, console)
        return 0
    ((kind, name),) = chosen
    try:
        recipe, wanted = load_recipe(options.paper, name, kind), cells(options.paper, name, kind)
        if options.print_config:
            _print_config((options.paper, name, kind), recipe, wanted, options)
            return 0
        return _run(recipe, wanted, options, console)
    except PlanError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Run the same command again to resume.\n")
        return 130


def _run(recipe: Mapping[str, Any], wanted: Sequence[Cell], options: argparse.Namespace, console: Console) -> int:
    kind = recipe["data"]
    root = options.root or Path(load_recipes()["data"][kind]["root"])
    available = available_categories(kind, root)
    if not available and kind != "mvtec":
        kind, available = "mvtec", available_categories("mvtec", root)
    if not available:
        sys.stderr.write(fetch_advice(recipe["data"], root) + "\n")
        return 1
    present = set(available)
    if options.categories:
        available = chosen_categories(available, options.categories, root)
    own_data = options.own_data or not {name for cell in wanted for name in cell.categories} & set(available)
    chosen = possible_cells(wanted, available, own_data)
    sweep = build_sweep(recipe, chosen, kind, root, dict(options.changes))
    preset = f"{options.preset}/{options.paper}" if options.preset else None
    sweep = apply_run_options(with_preset(sweep, preset) if preset else sweep, options)
    jobs = needed_jobs(expand(replace(sweep, gallery=1)), chosen) if chosen else []
    missing = [] if own_data else [cell for cell in wanted if not set(cell.categories) <= present]
    if missing:
        cells = f"of {counted(len(wanted), 'cell')}"
        text = f"{counted(len(missing), f'{cells} needs', f'{cells} need')} categories that are not in {root}."
        console.print(printable(text), soft_wrap=True)
    folder = options.output or Path("results/reproduce", (preset or options.paper).replace("/", "-"))
    if options.dry_run or not jobs:
        list_jobs(jobs, ResultStore(folder) if folder.exists() else None, console)
        return int(not jobs)
    store = ResultStore(folder)
    status = run_jobs(jobs, store, options, console)
    records = {record["job_id"]: record for record in store.records()}
    shown = chosen if own_data else wanted
    without = {True: "no data", False: "not run"}
    numbers = [our_number(cell, jobs, records) if cell in chosen else without[cell in missing] for cell in shown]
    print_cells(shown, numbers, console, preset)
    for column, reason in recipe["not_run"].items():
        console.print(f"Not compared: {column}, {reason}.", soft_wrap=True)
    return status
