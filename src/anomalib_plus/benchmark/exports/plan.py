"""The plan of exports and their comparison, from YAML."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anomalib_plus.benchmark.exports.formats import FORMATS
from anomalib_plus.benchmark.plan import Budget, DataEntry, ModelEntry


@dataclass(frozen=True)
class DeploymentPlan:
    """Content of the YAML file of ``anomalib-plus deployment``.

    Args:
        models: Models to export, as in a benchmark.
        data: Trains them; its test images are predicted.
        image_size: Height and width that the models work on; None for each model's own.
        budget: When trainings end.
        normalize: Validate after the training, so that scores are normalised and thresholds set, as a user's model
            has them. False leaves scores as the network gives them, for models with random weights.
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


def with_folder(plan: DeploymentPlan, root: Path, category: str) -> DeploymentPlan:
    """The plan on a category in MVTec layout."""
    arguments = {name: value for name, value in plan.data.init_args.items() if name not in ("root", "category")}
    arguments |= {"root": str(root), "category": category}
    return replace(plan, data=DataEntry("anomalib_plus.data.MVTec", init_args=arguments))
