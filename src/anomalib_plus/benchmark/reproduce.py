"""anomalib-plus reproduce PAPER --table N: train a paper's models on your data, compare with its table.

--figure N runs the rows of a figure, --variant NAME a setting that is not in the paper; both have no printed
numbers to compare with. --print-config runs nothing and prints the training of a row as a configuration for
anomalib train --config.

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
from anomalib_plus.benchmark.plan import Budget, DataEntry, Job, ModelEntry, Sweep, expand, label_of
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable
from anomalib_plus.presets import preset

_PRESET_BATCH = 8
"""Batch size of the commands in the presets' files."""


def available_categories(kind: str, root: Path) -> list[str]:
    """Return the categories below a folder for a kind of data: ``mvtec``, ``btad`` or ``mnist``."""
    if kind == "mnist":
        return [str(digit) for digit in range(10)] if (root / "MNIST" / "raw").is_dir() else []
    return find_categories(root, ["train/ok"]) if kind == "btad" else find_categories(root)


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
            ModelEntry(recipe["class_path"], init_args={**variant, **changes}, variant=name)
            for name, variant in variants.items()
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


def with_preset(sweep: Sweep, name: str) -> Sweep:
    """Return a paper's sweep with the model, image size and training length of a preset; rows keep their arguments.

    Raises:
        PlanError: If there is no such preset.
    """
    try:
        content = preset(name)
    except ValueError as error:
        raise PlanError(str(error)) from error
    trainer = content["trainer"]
    size = content["model"]["init_args"]["pre_processor"]["init_args"]["transform"]["init_args"]["size"]
    return replace(
        sweep,
        models=tuple(
            replace(model, class_path="", preset=name, label=f"{label_of(model)} {name}") for model in sweep.models
        ),
        data=tuple(
            replace(data, init_args=data.init_args | {"train_batch_size": _PRESET_BATCH}) for data in sweep.data
        ),
        budget=Budget(trainer.get("max_epochs"), trainer.get("max_steps"), _seconds(trainer.get("max_time"))),
        protocol=replace(sweep.protocol, image_size=tuple(size)),
    )


def _seconds(max_time: str | None) -> float | None:
    """Convert Lightning's days:hours:minutes:seconds."""
    if max_time is None:
        return None
    days, hours, minutes, seconds = map(int, max_time.split(":"))
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)


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


def _print_config(place: str, recipe: Mapping[str, Any], wanted: Sequence[Cell], options: argparse.Namespace) -> None:
    arguments, category = choose_training(wanted, options.row, options.categories)
    cell = replace(wanted[0], variants={"": arguments}, categories=(category,))
    sweep = build_sweep(recipe, [cell], recipe["data"], _root(recipe, options), dict(options.changes))
    row = f", row {options.row}" if options.row else ""
    content = configuration(apply_run_options(sweep, options), recipe)
    sys.stdout.write(to_yaml(content, f"{options.paper}, {place}{row}: {recipe['title']}"))


def _root(recipe: Mapping[str, Any], options: argparse.Namespace) -> Path:
    return options.root or Path(load_recipes()["data"][recipe["data"]]["root"])


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
        for kind in KINDS:
            for name, entry in load_recipes()[options.paper].get(f"{kind}s", {}).items():
                console.print(f"{kind} {name}: {entry['title']}", highlight=False, soft_wrap=True)
        return 0
    ((kind, name),) = chosen
    try:
        recipe, wanted = load_recipe(options.paper, name, kind), cells(options.paper, name, kind)
        if options.print_config:
            _print_config(f"{kind} {name}", recipe, wanted, options)
            return 0
        return _run(recipe, wanted, options, console)
    except PlanError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Run the same command again to resume.\n")
        return 130


def _run(recipe: Mapping[str, Any], wanted: Sequence[Cell], options: argparse.Namespace, console: Console) -> int:
    kind, root = recipe["data"], _root(recipe, options)
    available = available_categories(kind, root)
    if not available and kind != "mvtec":
        kind, available = "mvtec", available_categories("mvtec", root)
    if not available:
        sys.stderr.write(
            f"There are no data in {root}: download {load_recipes()['data'][recipe['data']]['fetch']} into it, or pass "
            "its location by --data.root FOLDER (any folder of categories in MVTec layout works).\n"
        )
        return 1
    present = set(available)
    if options.categories:
        if absent := [name for name in options.categories if name not in present]:
            msg = f"There is no category {', '.join(absent)} in {root}; available: {', '.join(available)}."
            raise PlanError(msg)
        available = [name for name in available if name in options.categories]
    own_data = options.own_data or not {name for cell in wanted for name in cell.categories} & set(available)
    chosen = possible_cells(wanted, available, own_data)
    sweep = build_sweep(recipe, chosen, kind, root, dict(options.changes))
    chosen_preset = f"{options.preset}/{options.paper}" if options.preset else None
    sweep = apply_run_options(with_preset(sweep, chosen_preset) if chosen_preset else sweep, options)
    jobs = needed_jobs(expand(replace(sweep, gallery=1)), chosen) if chosen else []
    missing = [] if own_data else [cell for cell in wanted if not set(cell.categories) <= present]
    if missing:
        of_all = f"of {counted(len(wanted), 'cell')}"
        text = f"{counted(len(missing), f'{of_all} needs', f'{of_all} need')} categories that are not in {root}."
        console.print(printable(text), soft_wrap=True)
    folder = options.output or Path("results/reproduce", (chosen_preset or options.paper).replace("/", "-"))
    if options.dry_run or not jobs:
        list_jobs(jobs, folder, console)
        return int(not jobs)
    store = ResultStore(folder)
    status = run_jobs(jobs, store, options, console)
    records = {record["job_id"]: record for record in store.records()}
    shown = chosen if own_data else wanted
    without = {True: "no data", False: "not run"}
    numbers = [our_number(cell, jobs, records) if cell in chosen else without[cell in missing] for cell in shown]
    print_cells(shown, numbers, console, chosen_preset)
    for column, reason in recipe["not_run"].items():
        console.print(f"Not compared: {column}, {reason}.", soft_wrap=True)
    return status
