"""What our models change of anomalib's exports."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_plus.deployment.int8 import quantize_networks, quantize_networks_within_accuracy
from anomalib_plus.deployment.resizing import pre_process

_OPSET = 18
"""What torch's exporter writes. It fails to convert that to the 14 anomalib asks for, logs a traceback and goes on."""
_EXPORTER_LOGGERS = ("onnx_ir", "onnxscript")


class UntrainedModelError(RuntimeError):
    """A model that was to be exported but was neither trained nor loaded."""


class ExportMixin:
    """Export trained models only, resize as the engine does, and quantise the networks alone.

    Use it as ``class Model(ExportMixin, AnomalibModule)``.
    """

    model: nn.Module

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

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """Predict for images (B, 3, H, W) in [0, 1] of any size, as exported models do, with the engine's results.

        anomalib's own resizes without antialiasing here and with it in the engine.
        """
        del args, kwargs
        images = pre_process(self.pre_processor, batch)  # type: ignore[attr-defined]
        predictions = self.model(images)
        post_processor: Any = self.post_processor  # type: ignore[attr-defined]
        if getattr(post_processor, "foreground", None) is not None:
            return post_processor(predictions, images)
        return post_processor(predictions) if post_processor else predictions

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch; see anomalib's ``ExportMixin.to_torch``.

        Raises:
            UntrainedModelError: If the model was neither trained nor loaded.
        """
        self._check_is_trained()
        return super().to_torch(*args, **kwargs)  # type: ignore[misc]

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:
        """Export to ONNX, also on the way to OpenVINO; see anomalib's ``ExportMixin.to_onnx``.

        Raises:
            UntrainedModelError: If the model was neither trained nor loaded.
        """
        self._check_is_trained()
        with _exporter_at_warnings():
            return super().to_onnx(*args, **{"opset_version": _OPSET, "verbose": False, **kwargs})  # type: ignore[misc]

    def _post_training_quantization_ov(self, model: Any, datamodule: Any = None) -> Any:
        """Quantise the networks alone: anomalib, which calls this for ``INT8_PTQ``, would quantise the map as well."""
        return quantize_networks(model, datamodule)

    def _accuracy_control_quantization_ov(
        self, model: Any, datamodule: Any = None, metric: Any = None, task: Any = None, max_drop: float = 0.01
    ) -> Any:
        """Do the same for ``INT8_ACQ``. Anomalib's compares outputs that the next batch has overwritten."""
        del task
        return quantize_networks_within_accuracy(model, datamodule, metric, max_drop)

    def _check_is_trained(self) -> None:
        if not self.is_trained:
            name = type(self).__name__
            msg = (
                f"This {name} was neither trained nor loaded from a checkpoint: the export would hold random weights. "
                f"Give the checkpoint (--ckpt_path=FILE, Engine.export(..., ckpt_path=FILE) or "
                f"{name}.load_from_checkpoint), or train first. Where its weights came in another way, set "
                "model.is_trained = True."
            )
            raise UntrainedModelError(msg)


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
