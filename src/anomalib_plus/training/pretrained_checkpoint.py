"""Checkpoints that load without a download and without the file of the pre-trained weights."""

from pathlib import Path
from typing import Any, ClassVar, TypeVar

Model = TypeVar("Model", bound="SelfContainedCheckpointMixin")


class SelfContainedCheckpointMixin:
    """Loading from checkpoints without pre-trained weights, because the checkpoint contains all weights.

    Use it as ``class Model(SelfContainedCheckpointMixin, AnomalibModule)``.
    """

    checkpoint_overrides: ClassVar[dict[str, Any]] = {"pre_trained": False, "weights": None}
    """Constructor arguments with values that neither download nor read a file."""

    @classmethod
    def load_from_checkpoint(cls: type[Model], checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Model:
        """Load a model; see :meth:`anomalib.models.AnomalibModule.load_from_checkpoint`.

        The model is built with ``checkpoint_overrides``, unless ``kwargs`` override them; its ``hparams`` say so.
        """
        arguments = {**cls.checkpoint_overrides, **kwargs}
        return super().load_from_checkpoint(checkpoint_path, *args, **arguments)  # type: ignore[misc]
