"""A sweep in YAML, and the jobs that follow from it: model x data category x seed, under one protocol."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.schema import PlanError, read

ID_LENGTH = 12


@dataclass(frozen=True)
class Budget:
    """When a training ends; the tightest of the limits counts. Memory banks need one epoch, whatever is said here.

    Args:
        max_epochs: Passes over the training images.
        max_steps: Updates of the weights.
        max_seconds: Seconds by the clock.
        max_cpu_seconds: Seconds that the job's process is on the CPU, all of its threads together, without data loading
            processes. A busy machine takes nothing from it.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    max_cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        """Check that each limit is positive."""
        if any(limit is not None and limit <= 0 for limit in asdict(self).values()):
            msg = f"limits must be positive, got {self}."
            raise ValueError(msg)


@dataclass(frozen=True)
class ModelEntry:
    """One model of a sweep.

    Args:
        class_path: Where the class is, e.g. ``anomalib.models.Padim`` or ``anomalib_plus.models.RamFAE``.
        init_args: Its arguments, plain data. The pre-processor follows from the protocol.
        label: Its name in results; the class's by default.
        variant: What tells it from other entries with this label.
        budget: Instead of the sweep's.
        data: Arguments of the datamodule that this model needs, e.g. ``{train_batch_size: 1}``.
        trainer: Arguments of the trainer that this model needs.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    variant: str | None = None
    budget: Budget | None = None
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataEntry:
    """One data set of a sweep.

    Args:
        class_path: The datamodule, e.g. ``anomalib_plus.data.MVTec``.
        categories: Values of its argument ``category_argument``; None for every category below ``root`` in MVTec
            layout (folders that hold ``train/good`` and ``test``).
        init_args: Its arguments.
        label: Its name in results; the class's by default, or the folder's where ``--data.root`` gives one.
        category_argument: The argument that the categories are for.
    """

    class_path: str
    categories: tuple[str | int, ...] | None = None
    init_args: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    category_argument: str = "category"


@dataclass(frozen=True)
class Sweep:
    """What the YAML file of a benchmark holds.

    Args:
        models: Models to compare.
        data: Data sets to compare them on.
        seeds: Every job runs once with each.
        budget: When trainings end.
        protocol: How trained models are judged.
        trainer: Further arguments of Lightning's trainer: accelerator, devices, strategy, precision, ...
        timeout_seconds: A job that takes longer is ended and recorded as failed; None waits forever.
        gallery: Pictures of each kind (best, worst, random) to keep.
        output: Folder of the results.
    """

    models: tuple[ModelEntry, ...]
    data: tuple[DataEntry, ...]
    seeds: tuple[int, ...] = (0,)
    budget: Budget = field(default_factory=Budget)
    protocol: Protocol = field(default_factory=Protocol)
    trainer: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: float | None = None
    gallery: int = 2
    output: str | None = None


@dataclass(frozen=True)
class Job:
    """One training with its evaluation; plain data, so that it can travel to another process or machine."""

    model: dict[str, Any]
    data: dict[str, Any]
    seed: int
    budget: dict[str, Any]
    protocol: dict[str, Any]
    trainer: dict[str, Any]
    gallery: int = 2
    timeout_seconds: float | None = None

    @property
    def job_id(self) -> str:
        """Hash of all that decides the result: not of the device, the gallery or the timeout."""
        machine = ("accelerator", "devices", "num_nodes")
        trainer = {key: value for key, value in self.trainer.items() if key not in machine}
        decisive = [self.model, self.data, self.seed, self.budget, self.protocol, trainer]
        return digest(decisive)[:ID_LENGTH]

    @property
    def title(self) -> str:
        """For people: model, data, seed."""
        variant = f" ({self.model['variant']})" if self.model["variant"] else ""
        return f"{self.model['label']}{variant} / {self.data['label']} {self.data['category']} / seed {self.seed}"

    def to_json(self) -> str:
        """The job as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """A job from :meth:`to_json`."""
        return cls(**json.loads(text))


def digest(value: Any) -> str:
    """SHA-256 of plain data, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def load_sweep(file: Path) -> Sweep:
    """Read a sweep from YAML.

    Raises:
        PlanError: If the file is missing or something in it is wrong; the message names the place.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        msg = f"{file} cannot be read: {error}"
        raise PlanError(msg) from error
    return read(Sweep, content, str(file))


def expand(sweep: Sweep) -> list[Job]:
    """The jobs of a sweep: data by data, so that all models of a category are soon complete.

    Raises:
        PlanError: If nothing limits a training, an argument is reserved, or two jobs are the same.
    """
    if not sweep.models or not sweep.data or not sweep.seeds:
        msg = "A sweep needs at least one model, one data set and one seed."
        raise PlanError(msg)
    jobs = [
        _job(sweep, model, data, category, seed)
        for data in sweep.data
        for category in _categories(data)
        for seed in sweep.seeds
        for model in sweep.models
    ]
    seen: dict[str, Job] = {}
    for job in jobs:
        if job.job_id in seen:
            msg = f"Two jobs are the same: {job.title}. Give one of the models another label or variant."
            raise PlanError(msg)
        seen[job.job_id] = job
    return jobs


def _job(sweep: Sweep, model: ModelEntry, data: DataEntry, category: str | int, seed: int) -> Job:
    reserved = {"pre_processor", "post_processor", "evaluator", "visualizer"} & set(model.init_args)
    if reserved:
        msg = f"{model.class_path}: {', '.join(sorted(reserved))} follow from the protocol and cannot be given."
        raise PlanError(msg)
    budget = model.budget or sweep.budget
    if all(limit is None for limit in asdict(budget).values()):
        names = ", ".join(asdict(budget))
        msg = f"Nothing limits the training of {model.class_path}: set one of budget's limits, {names}."
        raise PlanError(msg)
    return Job(
        model={
            "label": model.label or _class_name(model.class_path),
            "class_path": model.class_path,
            "arguments": model.init_args,
            "variant": model.variant,
        },
        data={
            "label": data.label or _class_name(data.class_path),
            "class_path": data.class_path,
            "category": str(category),
            "arguments": data.init_args | {data.category_argument: category} | model.data,
        },
        seed=seed,
        budget=asdict(budget),
        protocol=json.loads(json.dumps(asdict(sweep.protocol))),
        trainer=sweep.trainer | model.trainer,
        gallery=sweep.gallery,
        timeout_seconds=sweep.timeout_seconds,
    )


def _class_name(class_path: str) -> str:
    return class_path.rpartition(".")[2]


def _categories(data: DataEntry) -> Iterator[str | int]:
    if data.categories is not None:
        yield from data.categories
        return
    root = data.init_args.get("root")
    if root is None:
        msg = f"{data.class_path} needs categories, or a root in which to look for them (--data.root FOLDER)."
        raise PlanError(msg)
    yield from find_categories(Path(root))


def find_categories(root: Path) -> list[str]:
    """Names of the folders in ``root`` that are laid out like a category of MVTec AD.

    Raises:
        PlanError: If there are none.
    """
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = [folder.name for folder in folders if (folder / "train" / "good").is_dir() and (folder / "test").is_dir()]
    if not found:
        msg = f"No category in MVTec layout (CATEGORY/train/good, CATEGORY/test) lies in {root}."
        raise PlanError(msg)
    return found


def with_roots(sweep: Sweep, roots: Sequence[Path], categories: Sequence[str] | None = None) -> Sweep:
    """The sweep on other folders: each data set of it from each root, filed under the folder's name.

    Args:
        sweep: The sweep.
        roots: Folders of categories.
        categories: Those to take; by default the sweep's own, or all that lie in a root.
    """
    entries = []
    places: list[Path | None] = [*roots] or [None]
    for data in sweep.data:
        for root in places:
            moved = data
            if root is not None:
                label = data.label or root.resolve().name
                moved = replace(moved, init_args=data.init_args | {"root": str(root)}, label=label)
            if categories is not None:
                there = find_categories(root) if root is not None and len(roots) > 1 else categories
                moved = replace(moved, categories=tuple(name for name in categories if name in there))
            entries.append(moved)
    return replace(sweep, data=tuple(entries))


def with_models(sweep: Sweep, labels: Sequence[str]) -> Sweep:
    """The sweep with some of its models only.

    Raises:
        PlanError: If a label is not in the sweep.
    """
    known = {(model.label or _class_name(model.class_path)).lower() for model in sweep.models}
    wanted = {label.lower() for label in labels}
    if wanted - known:
        msg = f"The sweep has no model {', '.join(sorted(wanted - known))}; it has {', '.join(sorted(known))}."
        raise PlanError(msg)
    chosen = [model for model in sweep.models if (model.label or _class_name(model.class_path)).lower() in wanted]
    return replace(sweep, models=tuple(chosen))


def with_budget(sweep: Sweep, changes: Mapping[str, float | int]) -> Sweep:
    """The sweep with another budget for all models."""
    budget = read(Budget, dict(changes), "budget")
    return replace(sweep, budget=budget, models=tuple(replace(model, budget=None) for model in sweep.models))
