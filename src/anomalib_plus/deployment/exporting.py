"""Changes to anomalib's exports that the models share."""

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
"""Version that torch's exporter writes; asked for anomalib's 14, it logs a failed conversion and writes 18 anyway."""
_EXPORTER_LOGGERS = ("onnx_ir", "onnxscript")


class UntrainedModelError(RuntimeError):
    """Error for the export of a model that was neither trained nor loaded."""


class ExportMixin:
    """Export with the engine's resizing and with INT8 for the networks only.

    A model that was neither trained nor loaded is refused by an :class:`UntrainedModelError`. Use it as
    ``class Model(ExportMixin, AnomalibModule)``.
    """

    model: nn.Module

    is_trained: bool = False
    """True once weights were trained or loaded. Set it to export weights from elsewhere, or random ones."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Mark the model as trained."""
        super().on_train_batch_end(*args, **kwargs)  # type: ignore[misc]
        self.is_trained = True

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights; see :meth:`torch.nn.Module.load_state_dict`."""
        result = super().load_state_dict(*args, **kwargs)  # type: ignore[misc]
        self.is_trained = True
        return result

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """Predict for images (B, 3, H, W) in [0, 1] of any size, as the engine does; exports contain this.

        anomalib's ``forward`` resizes without antialiasing, its engine with it.
        """
        del args, kwargs
        images = pre_process(self.pre_processor, batch)  # type: ignore[attr-defined]
        predictions = self.model(images)
        post_processor: Any = self.post_processor  # type: ignore[attr-defined]
        if getattr(post_processor, "needs_images", False):
            return post_processor(predictions, images)
        return post_processor(predictions) if post_processor else predictions

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch; see anomalib's ``ExportMixin.to_torch``."""
        self._check_is_trained()
        return super().to_torch(*args, **kwargs)  # type: ignore[misc]

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:
        """Export to ONNX, which ``to_openvino`` calls too; see anomalib's ``ExportMixin.to_onnx``."""
        self._check_is_trained()
        with _quiet_exporter():
            return super().to_onnx(*args, **{"opset_version": _OPSET, "verbose": False, **kwargs})  # type: ignore[misc]

    def _post_training_quantization_ov(self, model: Any, datamodule: Any = None) -> Any:
        """Quantise for anomalib's ``INT8_PTQ``, but the networks only: anomalib would quantise the anomaly map too."""
        return quantize_networks(model, datamodule)

    def _accuracy_control_quantization_ov(
        self, model: Any, datamodule: Any = None, metric: Any = None, task: Any = None, max_drop: float = 0.01
    ) -> Any:
        """Quantise for anomalib's ``INT8_ACQ``. anomalib's own measures outputs that the next batch has overwritten."""
        del task
        return quantize_networks_within_accuracy(model, datamodule, metric, max_drop)

    def _check_is_trained(self) -> None:
        if not self.is_trained:
            name = type(self).__name__
            msg = (
                f"This {name} was neither trained nor loaded from a checkpoint: the export would hold random weights. "
                f"Pass the checkpoint (--ckpt_path=FILE, Engine.export(..., ckpt_path=FILE) or "
                f"{name}.load_from_checkpoint), or train first. If its weights come from elsewhere, set "
                "model.is_trained = True."
            )
            raise UntrainedModelError(msg)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's thousands of INFO lines out of the log, unless the user has set a level."""
    quieted = [logger for logger in map(logging.getLogger, _EXPORTER_LOGGERS) if logger.level == logging.NOTSET]
    for logger in quieted:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger in quieted:
            logger.setLevel(logging.NOTSET)
