"""anomalib-plus benchmark: compare models on data sets and seeds, as a YAML file lists them.

Each training with its evaluation is a job in its own process; a crash is recorded as a result. The same command resumes
a sweep and does not repeat finished jobs. (anomalib's own pipeline of this name remains anomalib benchmark.)
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from anomalib_plus.benchmark.choices import with_budget, with_models, with_roots
from anomalib_plus.benchmark.papers import save_published
from anomalib_plus.benchmark.plan import Job, Sweep, expand, load, with_variant
from anomalib_plus.benchmark.progress import SweepProgress
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.runner import run_local, unfinished
from anomalib_plus.benchmark.schema import PlanError, read
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs jobs."""
    parser.add_argument("--output", type=Path, help="folder of the results")
    parser.add_argument("--runner", choices=("local", "ray"), default="local", help="where jobs run (default: local)")
    parser.add_argument("--workers", type=int, default=1, help="jobs at a time on a machine (default: 1)")
    parser.add_argument("--threads", type=int, help="threads of each job (default: cores / workers)")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu", "mps"), help="device, instead of the file's")
    parser.add_argument(
        "--devices", nargs="+", default=[], metavar="ID", help="CUDA devices to distribute over the workers"
    )
    parser.add_argument("--ray-address", help="address of the Ray cluster (default: a local one)")
    parser.add_argument("--gpus-per-job", type=float, default=0.0, help="GPUs that Ray reserves for a job (default: 0)")
    parser.add_argument("--retries", type=int, default=3, help="repetitions of a job whose machine died (with Ray)")
    parser.add_argument("--retry-failed", action="store_true", help="run failed jobs once more")
    parser.add_argument("--max-epochs", type=int, help="budget of every model, instead of the file's")
    parser.add_argument("--max-steps", type=int, help="likewise")
    parser.add_argument("--max-seconds", type=float, help="likewise, wall-clock time")
    parser.add_argument("--max-cpu-seconds", type=float, help="likewise, CPU time of the job's process")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, instead of the file's")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="image size, instead of the file's")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and what is finished; run nothing")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-plus benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="sweep, e.g. configs/benchmark/smoke.yaml")
    parser.add_argument("--data.root", dest="roots", type=Path, nargs="+", default=[], metavar="FOLDER",
                        help="folders of categories in MVTec layout, instead of the file's")  # fmt: skip
    parser.add_argument("--data.category", "--data.categories", dest="categories", nargs="+", metavar="NAME",
                        help="categories to take")  # fmt: skip
    parser.add_argument("--models", nargs="+", metavar="LABEL", help="models of the file to take")
    parser.add_argument("--synthetic-validation", action="store_true",
                        help="validate on synthetic defects; anomalib-plus selection evaluates them")  # fmt: skip
    add_run_options(parser)
    return parser


def apply_run_options(sweep: Sweep, options: argparse.Namespace) -> Sweep:
    """Apply the options of :func:`add_run_options` to a sweep.

    Raises:
        PlanError: If a value is invalid.
    """
    limits = {name: getattr(options, name) for name in ("max_epochs", "max_steps", "max_seconds", "max_cpu_seconds")}
    if any(limit is not None for limit in limits.values()):
        sweep = with_budget(sweep, {name: limit for name, limit in limits.items() if limit is not None})
    if options.seeds:
        sweep = replace(sweep, seeds=tuple(options.seeds))
    if options.image_size:
        protocol = asdict(sweep.protocol) | {"image_size": options.image_size}
        sweep = replace(sweep, protocol=read(Protocol, protocol, "protocol"))
    if options.accelerator:
        trainer = {"accelerator": options.accelerator}
        sweep = replace(sweep, models=tuple(replace(one, trainer=one.trainer | trainer) for one in sweep.models))
    return sweep


def run_jobs(jobs: Sequence[Job], store: ResultStore, options: argparse.Namespace, console: Console) -> int:
    """Run the unfinished jobs.

    Returns:
        The exit status: 0 if all jobs have succeeded, 1 if one has failed.

    Raises:
        PlanError: If the folder's plan is damaged.
    """
    store.add_to_plan(job.entry for job in jobs)
    todo = unfinished(jobs, store, options.retry_failed)
    known = {record["model"]["class_path"] for record in store.records()}
    save_published(store.folder, known | {job.model["class_path"] for job in jobs})
    console.print(
        f"{counted(len(jobs), 'job')}, {len(jobs) - len(todo)} of them finished. Results: {printable(str(store.file))}",
        soft_wrap=True,
    )
    workers = max(options.workers, 1)
    with SweepProgress(len(jobs), len(jobs) - len(todo), workers, console) as progress:
        if options.runner == "ray":
            from anomalib_plus.benchmark.ray_runner import Share, run_on_ray

            share = Share(options.threads, options.gpus_per_job, workers)
            run_on_ray(todo, store, progress, share, options.retries, options.ray_address)
        else:
            threads = options.threads or max(usable_cores() // workers, 1)
            run_local(todo, store, progress, workers, threads, options.devices)
    states = store.states()
    failed = [job for job in jobs if states.get(job.job_id) != "ok"]
    if failed:
        console.print(f"{len(failed)} of {counted(len(jobs), 'job')} failed; --retry-failed runs them again.")
    return int(bool(failed))


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def list_jobs(jobs: Sequence[Job], folder: Path, console: Console) -> None:
    """Print the jobs with their states in a folder of results, which need not exist."""
    states = ResultStore(folder).states() if folder.exists() else {}
    table = Table(*(Column(name, overflow="fold") for name in ("job", "model", "data", "seed", "state")), box=None)
    for job in jobs:
        model = with_variant(job.model["label"], job.model["variant"])
        data = f"{job.data['label']} {job.data['category']}"
        cells = (job.job_id, model, data, str(job.seed), states.get(job.job_id, "to do"))
        table.add_row(*map(printable, cells))
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """Run a sweep.

    Returns:
        The exit status: 0 if every job succeeded, 1 if one failed, 130 after Ctrl-C. Wrong arguments exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console(markup=False)
    try:
        sweep = load(Sweep, options.config)
        if options.models:
            sweep = with_models(sweep, options.models)
        if options.roots or options.categories:
            sweep = with_roots(sweep, options.roots, options.categories)
        if options.synthetic_validation:
            sweep = replace(sweep, synthetic_validation=sweep.synthetic_validation or {})
        jobs = expand(apply_run_options(sweep, options))
    except PlanError as error:
        parser.error(str(error))
    folder = options.output or Path(sweep.output or f"results/benchmark/{options.config.stem}")
    if options.dry_run:
        list_jobs(jobs, folder, console)
        return 0
    try:
        return run_jobs(jobs, ResultStore(folder), options, console)
    except PlanError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Run the same command again to resume.\n")
        return 130
