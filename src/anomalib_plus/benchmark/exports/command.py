"""anomalib-plus deployment: export models with anomalib, compare every backend with eager, and time them.

Each model runs in a process of its own; models, formats and backends that fail are listed in a table.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from anomalib_plus.benchmark.choices import with_budget, with_models
from anomalib_plus.benchmark.command import usable_cores
from anomalib_plus.benchmark.exports.formats import FORMATS
from anomalib_plus.benchmark.exports.plan import RECORD, TASK, DeploymentPlan
from anomalib_plus.benchmark.exports.tables import print_tables, tables, to_markdown
from anomalib_plus.benchmark.plan import DataEntry, label_of, load, with_variant
from anomalib_plus.benchmark.process import ModuleProcess
from anomalib_plus.benchmark.record import package_version
from anomalib_plus.benchmark.schema import PlanError
from anomalib_plus.counts import counted

MEASURE_MODULE = "anomalib_plus.benchmark.exports.measure"
"""Module that measures a model, run in a process of its own."""
LOG = "log.txt"
_PACKAGES = ("anomalib-plus", "anomalib", "torch", "onnx", "onnxruntime", "openvino", "nncf")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-plus deployment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="plan, e.g. configs/deployment/small.yaml")
    parser.add_argument("--data.root", dest="root", type=Path, help="folder in MVTec layout, instead of the plan's")
    parser.add_argument("--data.category", dest="category", help="category in that folder")
    parser.add_argument("--models", nargs="+", metavar="LABEL", help="models of the plan to take")
    parser.add_argument("--max-epochs", type=int, help="budget of every model, instead of the plan's")
    parser.add_argument("--images", type=int, help="test images to predict, instead of the plan's")
    parser.add_argument("--formats", nargs="+", metavar="FORMAT", help=f"exports to make, of {', '.join(FORMATS)}")
    parser.add_argument("--no-timing", action="store_true", help="leave out the latencies")
    parser.add_argument("--threads", type=int, help="threads of every backend (default: cores)")
    parser.add_argument("--output", type=Path, help="folder of exports, tables.md and records.json")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run a plan.

    Returns:
        The exit status: 0 on success, 1 if a model, format or backend failed. Wrong arguments exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console()
    try:
        plan = _apply(load(DeploymentPlan, options.config), options)
    except ValueError as error:
        parser.error(str(error))
    threads = options.threads or usable_cores()
    folder = options.output or Path(plan.output or f"results/deployment/{options.config.stem}")
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for index, model in enumerate(plan.models):
        name = with_variant(label_of(model), model.variant)
        console.print(f"{index + 1} of {len(plan.models)}: {name}", soft_wrap=True)
        record = measure_apart(plan, index, threads, folder)
        if record["error"] is not None:
            console.print(f"  failed: {record['error']}", soft_wrap=True, markup=False)
        records.append(record)
        found = tables(records, plan.batch_sizes)
        # Written after every model, so that an interruption loses the current one only.
        environment = _environment(threads)
        (folder / "records.json").write_text(json.dumps({"environment": environment, "models": records}, indent=1))
        (folder / "tables.md").write_text(_heading(environment, plan) + to_markdown(found))
    print_tables(found, console)
    console.print(f"Written to {folder}", soft_wrap=True)
    return int(any(table.title == "Failures" for table in found))


def measure_apart(plan: DeploymentPlan, index: int, threads: int, folder: Path) -> dict[str, Any]:
    """Measure a model in a process of its own; if that fails or the process dies, its record holds the error."""
    entry = plan.models[index]
    place = folder / f"{index:02d}-{label_of(entry)}"
    place.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, LOG):
        (place / name).unlink(missing_ok=True)
    task = {"plan": asdict(plan), "index": index, "threads": threads}
    (place / TASK).write_text(json.dumps(task, indent=1, default=str))
    process = ModuleProcess(MEASURE_MODULE, [str(place)], place / LOG, plan.timeout_seconds)
    process.wait()
    record = place / RECORD
    content = json.loads(record.read_text()) if record.exists() else {"error": process.failure()[1]}
    if content["error"] is None:
        return content
    error = f"{content['error']} See {place / LOG}."
    return {"label": label_of(entry), "variant": entry.variant, "class_path": entry.class_path, "error": error}


def _apply(plan: DeploymentPlan, options: argparse.Namespace) -> DeploymentPlan:
    if (options.root is None) != (options.category is None):
        msg = "--data.root and --data.category must be given together."
        raise PlanError(msg)
    if options.root is not None:
        arguments = plan.data.init_args | {"root": str(options.root), "category": options.category}
        plan = replace(plan, data=DataEntry("anomalib_plus.data.MVTec", init_args=arguments))
    if options.models:
        plan = with_models(plan, options.models)
    if options.max_epochs is not None:
        plan = with_budget(plan, {"max_epochs": options.max_epochs})
    if options.formats:
        plan = replace(plan, formats=tuple(options.formats))
    if options.no_timing:
        plan = replace(plan, batch_sizes=())
    return plan if options.images is None else replace(plan, images=options.images)


def _environment(threads: int) -> dict[str, Any]:
    import torch  # here, because --help should be fast

    from anomalib_plus.benchmark.environment import device_name

    return {
        "device": device_name(torch.device("cpu")),
        "threads": threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
    }


def _heading(environment: dict[str, Any], plan: DeploymentPlan) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    data = plan.data.init_args.get("category", "")
    threads = counted(environment["threads"], "thread")
    return f"{environment['device']}, {threads}; {packages}; {data}.\n\n"
