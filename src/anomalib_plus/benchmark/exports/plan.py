"""Plan of exports and their comparison, read from YAML."""

from dataclasses import dataclass, field
from typing import Any

from anomalib_plus.benchmark.exports.formats import FORMATS
from anomalib_plus.benchmark.plan import Budget, DataEntry, ModelEntry

TASK, RECORD = "task.json", "record.json"
"""Files with the input and the result of the process that measures a model."""


@dataclass(frozen=True)
class DeploymentPlan:
    """Content of the YAML file of ``anomalib-plus deployment``.

    Args:
        models: Models to export, as in a benchmark.
        data: Data set for the training; the backends predict its test images.
        image_size: Height and width of the models' input; None for each model's default.
        budget: Limits of the trainings.
        normalize: Find thresholds and normalise scores by a validation, as in a user's model. False keeps the raw
            scores, for models with random weights.
        images: Number of evenly spread test images to predict; None for all.
        batch_sizes: Batch sizes to time; empty for no timing.
        formats: Names in :data:`~anomalib_plus.benchmark.exports.formats.FORMATS` of the exports to make.
        trainer: Further arguments of Lightning's trainer.
        seed: Seed of the trainings.
        timeout_seconds: Time after which a model is ended and recorded as failed.
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
            msg = f"at least one model is needed, and positive batch sizes, got {self.batch_sizes}."
            raise ValueError(msg)
        if unknown := set(self.formats) - set(FORMATS):
            msg = f"there is no format {', '.join(sorted(unknown))}; available: {', '.join(FORMATS)}."
            raise ValueError(msg)
        if self.images is not None and self.images < 1:
            msg = f"images must be positive, got {self.images}."
            raise ValueError(msg)
