"""What to export and how to compare it, from YAML."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from anomalib_plus.benchmark.exports.formats import FORMATS
from anomalib_plus.benchmark.plan import Budget, DataEntry, ModelEntry
from anomalib_plus.benchmark.schema import PlanError, read


@dataclass(frozen=True)
class DeploymentPlan:
    """What the YAML file of ``anomalib-plus deployment`` holds.

    Args:
        models: Models to export, as in a benchmark.
        data: Trains them; its test images are predicted.
        image_size: Height and width that the models work on; None for each model's own.
        budget: When trainings end.
        normalize: Validate after the training, so that scores are normalised and thresholds set, as a user's model
            has them. False leaves scores as the network gives them, which is all that random weights are good for.
        images: Test images, spread over the data set, that the backends predict; None for all.
        batch_sizes: Batches that are timed; none for no timing.
        formats: Names in :data:`~anomalib_plus.benchmark.exports.formats.FORMATS` of the exports to make.
        trainer: Further arguments of Lightning's trainer.
        seed: Of the training.
        timeout_seconds: A model that takes longer is ended and recorded as failed.
        output: Folder of exports and tables.
    """

    models: tuple[ModelEntry, ...]
    data: DataEntry
    image_size: tuple[int, int] | None = None
    budget: Budget = field(default_factory=lambda: Budget(max_epochs=1))
    normalize: bool = True
    images: int | None = None
    batch_sizes: tuple[int, ...] = (1, 8)
    formats: tuple[str, ...] = tuple(FORMATS)
    trainer: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    timeout_seconds: float = 7200.0
    output: str | None = None

    def __post_init__(self) -> None:
        """Check numbers and names."""
        if not self.models or min(self.batch_sizes, default=1) < 1:
            msg = "there must be a model, and batch sizes must be positive."
            raise ValueError(msg)
        if unknown := set(self.formats) - set(FORMATS):
            msg = f"there is no format {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}."
            raise ValueError(msg)
        if self.images is not None and self.images < 1:
            msg = f"images must be positive, got {self.images}."
            raise ValueError(msg)


def load_plan(file: Path) -> DeploymentPlan:
    """Read a plan from YAML.

    Raises:
        PlanError: If the file is missing or something in it is wrong; the message names the place.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        msg = f"{file} cannot be read: {error}"
        raise PlanError(msg) from error
    return read(DeploymentPlan, content, str(file))


def with_folder(plan: DeploymentPlan, root: Path, category: str) -> DeploymentPlan:
    """The plan on a category in MVTec layout."""
    arguments = {name: value for name, value in plan.data.init_args.items() if name not in ("root", "category")}
    arguments |= {"root": str(root), "category": category}
    return replace(plan, data=DataEntry("anomalib_plus.data.MVTec", init_args=arguments))


def with_models(plan: DeploymentPlan, labels: Sequence[str]) -> DeploymentPlan:
    """The plan with some of its models.

    Raises:
        PlanError: If a label is not in the plan.
    """
    known = {label_of(model).lower(): model for model in plan.models}
    unknown = [label for label in labels if label.lower() not in known]
    if unknown:
        msg = f"The plan has no model {', '.join(unknown)}; it has {', '.join(map(label_of, plan.models))}."
        raise PlanError(msg)
    wanted = {label.lower() for label in labels}
    return replace(plan, models=tuple(model for model in plan.models if label_of(model).lower() in wanted))


def label_of(model: ModelEntry) -> str:
    """The model's name in tables."""
    return model.label or model.class_path.rpartition(".")[2]
