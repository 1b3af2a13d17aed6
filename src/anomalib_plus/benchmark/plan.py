"""A sweep in YAML, and the jobs that follow from it: model x data category x seed, under one protocol."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anomalib_plus.benchmark.folders import find_categories
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.schema import Dataclass, PlanError, read

ID_LENGTH = 12
_COMPONENTS = {"pre_processor", "post_processor", "evaluator", "visualizer"}
_LIMITS = {"max_epochs", "max_steps", "max_time", "callbacks"}
"""Arguments of the trainer that would undo the budget."""


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
        """Check that each limit is positive and finite."""
        if not all(limit is None or 0 < limit < math.inf for limit in asdict(self).values()):
            msg = f"limits must be positive and finite, got {self}; leave out those that shall not count."
            raise ValueError(msg)


@dataclass(frozen=True)
class ModelEntry:
    """One model of a sweep.

    Args:
        class_path: Where the class is, e.g. ``anomalib.models.Padim``.
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
        label: Its name in results; the class's by default. Where ``--data.root`` gives a folder, the folder's counts.
        category_argument: The argument that the categories are for.
    """

    class_path: str
    categories: tuple[str | int, ...] | None = None
    init_args: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    category_argument: str = "category"


@dataclass(frozen=True)
class Sweep:
    """Content of the YAML file of a benchmark.

    Args:
        models: Models to compare.
        data: Data sets to compare them on.
        seeds: Every job runs once with each.
        budget: When trainings end.
        protocol: How trained models are evaluated.
        trainer: Further arguments of Lightning's trainer: accelerator, devices, strategy, precision, ...
        timeout_seconds: A job that takes longer is ended and recorded as failed; None waits forever.
        gallery: Test images of each kind to keep pictures of: the defective ones with the highest and the lowest
            scores, the good ones with the highest, and some of both drawn at random.
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
        """Hash of all that decides the result: not of the kind of device, the gallery or the timeout."""
        trainer = {key: value for key, value in self.trainer.items() if _is_decisive(key, value)}
        decisive = [self.model, _identity(self.data), self.seed, self.budget, self.protocol, trainer]
        return digest(decisive)[:ID_LENGTH]

    @property
    def title(self) -> str:
        """For people: model, data, seed."""
        variant = f" ({self.model['variant']})" if self.model["variant"] else ""
        return f"{self.model['label']}{variant} / {self.data['label']} {self.data['category']} / seed {self.seed}"

    @property
    def entry(self) -> dict[str, Any]:
        """The job in a plan: as much as a list of missing jobs needs."""
        return {
            "job_id": self.job_id,
            "model": {name: self.model[name] for name in ("label", "class_path", "variant")},
            "data": {name: self.data[name] for name in ("label", "category")},
            "seed": self.seed,
        }

    def to_json(self) -> str:
        """The job as JSON; what JSON cannot hold, a date for one, is text."""
        return json.dumps(asdict(self), indent=1, default=str)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """A job from :meth:`to_json`."""
        return cls(**json.loads(text))


def _is_decisive(key: str, value: Any) -> bool:
    """True if an argument of the trainer moves the numbers: several devices do, their kind does not."""
    is_one = value in (1, "1", "auto", None) or (isinstance(value, list) and len(value) == 1)
    return key != "accelerator" and not (key in {"devices", "num_nodes"} and is_one)


def _identity(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as the hash sees them: with the folder's bare name, whatever stands in front to tell it from others."""
    root, parts = data.get("arguments", {}).get("root"), Path(data["label"]).parts
    is_folder = isinstance(root, str) and Path(root).parts[-len(parts) :] == parts
    return {**data, "label": parts[-1]} if is_folder else dict(data)


def digest(value: Any) -> str:
    """SHA-256 of plain data, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def load_sweep(file: Path) -> Sweep:
    """Read a sweep from YAML; errors are those of :func:`load`."""
    return load(Sweep, file)


def load(kind: type[Dataclass], file: Path) -> Dataclass:
    """Read a dataclass from YAML.

    Raises:
        PlanError: If the file is missing or something in it is wrong; the message names the place.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        msg = f"{file} cannot be read: {error}"
        raise PlanError(msg) from error
    return read(kind, content, str(file))


def expand(sweep: Sweep) -> list[Job]:
    """The jobs of a sweep: data by data, so that all models of a category are soon complete.

    Raises:
        PlanError: If nothing limits a training, an argument is reserved, two jobs are the same, or there are none.
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
    if not jobs:
        msg = "There is nothing to run: no data set of the sweep has a category."
        raise PlanError(msg)
    seen: dict[str, Job] = {}
    for job in jobs:
        if job.job_id in seen:
            msg = f"Two jobs are the same: {job.title}. Give one of the models another label or variant."
            raise PlanError(msg)
        seen[job.job_id] = job
    return jobs


def _job(sweep: Sweep, model: ModelEntry, data: DataEntry, category: str | int, seed: int) -> Job:
    trainer = sweep.trainer | model.trainer
    if reserved := _COMPONENTS & set(model.init_args):
        msg = f"{model.class_path}: {', '.join(sorted(reserved))} follow from the protocol and cannot be given."
        raise PlanError(msg)
    if reserved := _LIMITS & set(trainer):
        msg = f"trainer: {', '.join(sorted(reserved))} cannot be given: budget says when a training ends."
        raise PlanError(msg)
    budget = model.budget or sweep.budget
    if all(limit is None for limit in asdict(budget).values()):
        names = ", ".join(asdict(budget))
        msg = f"Nothing limits the training of {model.class_path}: set one of budget's limits, {names}."
        raise PlanError(msg)
    return Job(
        model={
            "label": label_of(model),
            "class_path": model.class_path,
            "arguments": model.init_args,
            "variant": model.variant,
        },
        data={
            "label": label_of(data),
            "class_path": data.class_path,
            "category": str(category),
            "arguments": _absolute(data.init_args | {data.category_argument: category} | model.data),
        },
        seed=seed,
        budget=asdict(budget),
        protocol=json.loads(json.dumps(asdict(sweep.protocol))),
        trainer=trainer,
        gallery=sweep.gallery,
        timeout_seconds=sweep.timeout_seconds,
    )


def _absolute(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments that mean the same in every working folder; an absolute root stays as written, for it is hashed."""
    root = arguments.get("root")
    if not isinstance(root, str) or Path(root).is_absolute():
        return arguments
    return arguments | {"root": str(Path(root).resolve())}


def label_of(entry: ModelEntry | DataEntry) -> str:
    """Return the name in results."""
    return entry.label or entry.class_path.rpartition(".")[2]


def _categories(data: DataEntry) -> Iterator[str | int]:
    if data.categories is not None:
        yield from data.categories
        return
    root = data.init_args.get("root")
    if root is None:
        msg = f"{data.class_path} needs categories, or a root in which to look for them (--data.root FOLDER)."
        raise PlanError(msg)
    yield from find_categories(Path(root))
