"""Exports of models that have learned something, with few log lines."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anomalib_plus.training.checkpoint_files import CheckpointError

_OPSET = 18
"""What torch's exporter writes. It fails to convert that to the 14 anomalib asks for, logs a traceback and goes on."""
_EXPORTER_LOGGERS = ("onnx_ir", "onnxscript")


class TrainedExportMixin:
    """Export trained models only.

    Use it as ``class Model(TrainedExportMixin, AnomalibModule)``.
    """

    is_trained: bool = False
    """Whether weights were learned or loaded. Set it to export weights that came in another way, or random ones."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note that the weights are learned."""
        super().on_train_batch_end(*args, **kwargs)  # type: ignore[misc]
        self.is_trained = True

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights; see :meth:`torch.nn.Module.load_state_dict`."""
        result = super().load_state_dict(*args, **kwargs)  # type: ignore[misc]
        self.is_trained = True
        return result

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch; see anomalib's ``ExportMixin.to_torch``.

        Raises:
            CheckpointError: If the model was neither trained nor loaded.
        """
        self._check_is_trained()
        return super().to_torch(*args, **kwargs)  # type: ignore[misc]

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:
        """Export to ONNX, also on the way to OpenVINO; see anomalib's ``ExportMixin.to_onnx``.

        Raises:
            CheckpointError: If the model was neither trained nor loaded.
        """
        self._check_is_trained()
        with _exporter_at_warnings():
            return super().to_onnx(*args, **{"opset_version": _OPSET, "verbose": False, **kwargs})  # type: ignore[misc]

    def _check_is_trained(self) -> None:
        if not self.is_trained:
            name = type(self).__name__
            msg = (
                f"This {name} was neither trained nor loaded from a checkpoint: the export would hold random weights. "
                f"Give the checkpoint (--ckpt_path=FILE, Engine.export(..., ckpt_path=FILE) or "
                f"{name}.load_from_checkpoint), or train first. Where its weights came in another way, set "
                "model.is_trained = True."
            )
            raise CheckpointError(msg)


@contextmanager
def _exporter_at_warnings() -> Iterator[None]:
    """Keep the exporter's thousands of INFO lines out of the log, unless the user has set a level for them."""
    quieted = [logger for logger in map(logging.getLogger, _EXPORTER_LOGGERS) if logger.level == logging.NOTSET]
    for logger in quieted:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger in quieted:
            logger.setLevel(logging.NOTSET)
