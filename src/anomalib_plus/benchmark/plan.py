"""Sweeps in YAML and their jobs: model x data category x seed, under one protocol."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anomalib_plus.benchmark.folders import find_categories
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.schema import Dataclass, PlanError, read
from anomalib_plus.presets import preset

ID_LENGTH = 12
_COMPONENTS = {"pre_processor", "post_processor", "evaluator", "visualizer"}
_LIMITS = {"max_epochs", "max_steps", "max_time", "callbacks"}  # arguments of the trainer that override the budget


@dataclass(frozen=True)
class Budget:
    """Limits of a training; the first one reached ends it. Memory banks always train one epoch.

    Args:
        max_epochs: Passes over the training images.
        max_steps: Optimizer steps.
        max_seconds: Wall-clock seconds.
        max_cpu_seconds: CPU seconds of all threads of the job's process, without data loading processes; independent
            of other load on the machine.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    max_cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        """Check that each limit is positive and finite."""
        if not all(limit is None or 0 < limit < math.inf for limit in asdict(self).values()):
            msg = f"limits must be positive and finite, got {self}; leave out limits that you do not need."
            raise ValueError(msg)


@dataclass(frozen=True)
class ModelEntry:
    """One model of a sweep.

    Args:
        class_path: Import path of the class, e.g. ``anomalib.models.Padim``; not with ``preset``.
        preset: Name of a preset, e.g. ``small/tsdn``, which gives class and arguments. Image size, metrics and trainer
            are the sweep's.
        init_args: Arguments, plain data; of a preset, those to change. The pre-processor follows from the protocol.
        label: Its name in results; the name of the class by default.
        variant: Name that distinguishes entries with the same label.
        budget: Budget of this model, instead of the sweep's.
        data: Arguments of the datamodule for this model, e.g. ``{train_batch_size: 1}``.
        trainer: Arguments of the trainer for this model.
    """

    class_path: str = ""
    init_args: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    variant: str | None = None
    preset: str | None = None
    budget: Budget | None = None
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Replace the name of a preset by its class and arguments."""
        if bool(self.class_path) == bool(self.preset):
            msg = f"give either class_path or preset, got {self.class_path or None} and {self.preset}."
            raise ValueError(msg)
        if self.preset:
            model = preset(self.preset)["model"]
            settings = {name: value for name, value in model["init_args"].items() if name not in _COMPONENTS}
            object.__setattr__(self, "class_path", model["class_path"])
            object.__setattr__(self, "init_args", settings | self.init_args)
            object.__setattr__(self, "preset", None)


@dataclass(frozen=True)
class DataEntry:
    """One data set of a sweep.

    Args:
        class_path: Import path of the datamodule, e.g. ``anomalib_plus.data.MVTec``.
        categories: Values of ``category_argument``; None for every category below ``root`` in MVTec layout (folders
            with ``train/good`` and ``test``).
        init_args: Its arguments.
        label: Its name in results; the name of the class by default, or of the folder given by ``--data.root``.
        category_argument: The datamodule's argument that takes a category.
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
        seeds: Seeds; each model trains once with each on every category.
        budget: Limits of the trainings.
        protocol: Rules of the evaluation.
        trainer: Further arguments of Lightning's trainer: accelerator, devices, strategy, precision, ...
        timeout_seconds: Time after which a job is ended and recorded as failed; None for no limit.
        gallery: Number of test images of each kind to save; the kinds are those of :func:`~.gallery.choose`.
        output: Folder of the results.
        synthetic_validation: Arguments of ``SyntheticValidation``, other than the datamodule, to validate on synthetic
            defects; its seed is that of the training. None for the datamodule's own validation images.
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
    synthetic_validation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Job:
    """One training with its evaluation, as plain data that can be sent to another process or machine."""

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
        """Hash of everything that affects the result; not the kind of device, the gallery or the timeout."""
        trainer = {key: value for key, value in self.trainer.items() if _affects_result(key, value)}
        return digest([self.model, _identity(self.data), self.seed, self.budget, self.protocol, trainer])[:ID_LENGTH]

    @property
    def title(self) -> str:
        """Readable name: model, data, seed."""
        model = with_variant(self.model["label"], self.model["variant"])
        return f"{model} / {self.data['label']} {self.data['category']} / seed {self.seed}"

    @property
    def entry(self) -> dict[str, Any]:
        """Short description for ``plan.json``, enough to list missing jobs."""
        return {
            "job_id": self.job_id,
            "model": {name: self.model[name] for name in ("label", "class_path", "variant")},
            "data": {name: self.data[name] for name in ("label", "category")},
            "seed": self.seed,
        }

    def to_json(self) -> str:
        """Return the job as JSON; values that JSON cannot hold, such as dates, become text."""
        return json.dumps(asdict(self), indent=1, default=str)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read a job written by :meth:`to_json`."""
        return cls(**json.loads(text))


def _affects_result(key: str, value: Any) -> bool:
    """Return True if a trainer argument changes the numbers: several devices do, their kind does not."""
    is_one = value in (1, "1", "auto", None) or (isinstance(value, list) and len(value) == 1)
    return key != "accelerator" and not (key in {"devices", "num_nodes"} and is_one)


def _identity(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data for the hash: with the folder's bare name, without the parents that make a title unique."""
    root, parts = data.get("arguments", {}).get("root"), Path(data["label"]).parts
    is_folder = isinstance(root, str) and Path(root).parts[-len(parts) :] == parts
    return {**data, "label": parts[-1]} if is_folder else dict(data)


def digest(value: Any) -> str:
    """SHA-256 of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def load(kind: type[Dataclass], file: Path) -> Dataclass:
    """Read a dataclass from YAML.

    Raises:
        PlanError: If the file cannot be read or a key or value is wrong; the message names it.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        msg = f"{file} cannot be read: {error}"
        raise PlanError(msg) from error
    return read(kind, content, str(file))


def expand(sweep: Sweep) -> list[Job]:
    """Return the jobs of a sweep, category by category, so that the first comparison is complete early.

    Raises:
        PlanError: If a training has no limit, an argument is reserved, two jobs are equal, or there are none.
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
        msg = f"{model.class_path}: {', '.join(sorted(reserved))} follow from the protocol: remove from init_args."
        raise PlanError(msg)
    if reserved := _LIMITS & set(trainer):
        msg = f"trainer: {', '.join(sorted(reserved))} cannot be given: set the limits of a training in budget."
        raise PlanError(msg)
    limits = asdict(model.budget or sweep.budget)
    if all(limit is None for limit in limits.values()):
        msg = f"Nothing limits the training of {model.class_path}: set one of budget's limits, {', '.join(limits)}."
        raise PlanError(msg)
    validation = {} if sweep.synthetic_validation is None else {"synthetic_validation": sweep.synthetic_validation}
    description = {"label": label_of(model), "class_path": model.class_path}
    return Job(
        model={**description, "arguments": model.init_args, "variant": model.variant},
        data={
            "label": label_of(data),
            "class_path": data.class_path,
            "category": str(category),
            "arguments": _absolute(data.init_args | {data.category_argument: category} | model.data),
            **validation,
        },
        seed=seed,
        budget=limits,
        protocol=json.loads(json.dumps(asdict(sweep.protocol))),
        trainer=trainer,
        gallery=sweep.gallery,
        timeout_seconds=sweep.timeout_seconds,
    )


def _absolute(arguments: dict[str, Any]) -> dict[str, Any]:
    """Make a relative root absolute; an absolute one stays as written, because it is part of the hash."""
    root = arguments.get("root")
    if isinstance(root, str) and not Path(root).is_absolute():
        return arguments | {"root": str(Path(root).resolve())}
    return arguments


def label_of(entry: Any) -> str:
    """Return the name in results of a model or data set: its ``label``, or the name of its class."""
    return entry.label or entry.class_path.rpartition(".")[2]


def with_variant(label: str, variant: str | None) -> str:
    """Return the name of a model with its variant in brackets."""
    return f"{label} ({variant})" if variant else label


def _categories(data: DataEntry) -> Sequence[str | int]:
    if data.categories is not None:
        return data.categories
    root = data.init_args.get("root")
    if root is None:
        msg = f"{data.class_path} needs categories, or a root that contains them (--data.root FOLDER)."
        raise PlanError(msg)
    if found := find_categories(Path(root)):
        return found
    msg = f"No category in MVTec layout (CATEGORY/train/good, CATEGORY/test) lies in {root}."
    raise PlanError(msg)
