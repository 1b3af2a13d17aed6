"""Loading of checkpoints, with errors that explain why one does not fit."""

import inspect
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from omegaconf import OmegaConf
from torch import nn

from anomalib_plus import __version__
from anomalib_plus.post_processing.restore import restore
from anomalib_plus.training.checkpoint_files import CheckpointError
from anomalib_plus.training.checkpoint_origin import (
    ORIGIN,
    adapt_to_compiled,
    check_names_no_code,
    check_origin,
    describe_misfit,
    read_head,
)
from anomalib_plus.training.renamed_arguments import renamed

_POST_PROCESSOR = "anomalib_post_processor_config"
"""anomalib's key in a checkpoint."""

Model = TypeVar("Model", bound="CheckedCheckpointMixin")


class CheckedCheckpointMixin:
    """Checks of a checkpoint before it is loaded, and explanations of weights that do not fit.

    Use it as ``class Model(CheckedCheckpointMixin, AnomalibModule)``.
    """

    renamed_arguments: ClassVar[dict[str, Any]] = {}
    """New names of constructor arguments by those of version 0.1; see :func:`.renamed_arguments.renamed`."""
    _loading: dict[str, Any] | None = None

    @classmethod
    def load_from_checkpoint(cls: type[Model], checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Model:
        """Load a model; see :meth:`anomalib.models.AnomalibModule.load_from_checkpoint`.

        Checkpoints of version 0.1 are supported: their arguments are renamed. A post-processor of this package is
        restored unless another one is passed.

        Raises:
            CheckpointError: If the file is damaged, contains or names code, or is of another model or version.
            FileNotFoundError: If there is no such file.
        """
        # Before the model is built, because building it with another model's arguments could fail first.
        head = read_head(checkpoint_path)
        check_names_no_code(head)
        check_origin(head, cls, _arguments(cls))
        saved = head.get("hyper_parameters", {})
        # Lightning ignores names that the constructor does not know, so those of version 0.1 need no removal.
        changed = {name: value for name, value in renamed(saved, cls).items() if name not in saved}
        if "post_processor" not in kwargs and (saved_one := restore(head.get(_POST_PROCESSOR))):
            changed["post_processor"] = saved_one
        return super().load_from_checkpoint(checkpoint_path, *args, **{**changed, **kwargs})  # type: ignore[misc]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add model and version to the checkpoint.

        OmegaConf containers, which ``get_model`` passes, become plain lists, or ``weights_only`` loading would fail.
        """
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        checkpoint["hyper_parameters"] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in checkpoint["hyper_parameters"].items()
        }
        checkpoint[ORIGIN] = {"model": type(self).__name__, "version": __version__}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this model, and drop the state of its evaluator.

        A model must load with any metrics, and some have buffers (AUPRO's limit), so this evaluator's are kept.

        Raises:
            CheckpointError: If the checkpoint is of another model.
        """
        check_origin(checkpoint, type(self), _arguments(type(self)))
        self._loading = {key: checkpoint[key] for key in ("hyper_parameters", ORIGIN) if key in checkpoint}
        if "hyper_parameters" in self._loading:
            self._loading["hyper_parameters"] = renamed(self._loading["hyper_parameters"], type(self))
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        weights, evaluator = checkpoint["state_dict"], self.evaluator  # type: ignore[attr-defined]
        for name in [name for name in weights if name.startswith("evaluator.")]:
            del weights[name]
        if evaluator is not None:
            weights.update({f"evaluator.{name}": value for name, value in evaluator.state_dict().items()})

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights, of compiled networks too; see :meth:`torch.nn.Module.load_state_dict`.

        Raises:
            CheckpointError: If names or shapes do not fit.
        """
        loading, self._loading = self._loading or {}, None
        network = cast(nn.Module, self)
        weights = adapt_to_compiled(state_dict, network)
        try:
            return super().load_state_dict(weights, *args, **kwargs)  # type: ignore[misc]
        except RuntimeError as error:
            arguments: dict[str, Any] = dict(self.hparams)  # type: ignore[attr-defined]
            raise CheckpointError(describe_misfit(network, arguments, weights, loading)) from error


def _arguments(model: type[CheckedCheckpointMixin]) -> set[str] | None:
    """List a model's constructor arguments, those of version 0.1 included; None if it takes any."""
    parameters = inspect.signature(model).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if takes_any else {*parameters, *model.renamed_arguments}
