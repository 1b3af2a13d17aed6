"""Checkpoints that need neither a download nor the file their pre-trained weights once came from."""

from pathlib import Path
from typing import Any, ClassVar, TypeVar

Model = TypeVar("Model", bound="SelfContainedCheckpointMixin")


class SelfContainedCheckpointMixin:
    """Build the model without pre-trained weights when it is loaded from a checkpoint, which holds them all.

    Use it as ``class Model(SelfContainedCheckpointMixin, AnomalibModule)``.
    """

    checkpoint_overrides: ClassVar[dict[str, Any]] = {"pre_trained": False, "weights": None}
    """Constructor arguments, and the values with which they neither download nor read a file."""

    @classmethod
    def load_from_checkpoint(cls: type[Model], checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Model:
        """Load a model; see :meth:`anomalib.models.AnomalibModule.load_from_checkpoint`.

        ``hparams`` of the model tell how this instance was built: with ``checkpoint_overrides``, unless ``kwargs`` say
        otherwise.
        """
        arguments = {**cls.checkpoint_overrides, **kwargs}
        return super().load_from_checkpoint(checkpoint_path, *args, **arguments)  # type: ignore[misc]
