"""Every file that anomalib can export a model to."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from anomalib_plus.benchmark.training import Trained


EAGER = "eager"
"""The model itself, beside its exports."""
_INT8 = "int8_ptq"


class Format(NamedTuple):
    """A kind of export, in the words of anomalib's command, for importing anomalib takes seconds."""

    export_type: str
    compression: str | None = None


FORMATS = {
    "torch": Format("torch"),
    "ONNX": Format("onnx"),
    "OpenVINO FP32": Format("openvino"),
    "OpenVINO FP16": Format("openvino", "fp16"),
    "OpenVINO INT8": Format("openvino", _INT8),
}


class Exported(NamedTuple):
    """An export's path, size and duration."""

    path: Path
    size: int
    """Bytes of all its files."""
    seconds: float


def export(trained: "Trained", form: Format, folder: Path) -> Exported:
    """Export by ``Engine.export``, for images of any number and size.

    Args:
        trained: The model.
        form: The kind of export.
        folder: Receives the files.
    """
    from anomalib.deploy import CompressionType

    started = time.perf_counter()
    path: Any = trained.engine.export(
        trained.model,
        form.export_type,
        export_root=folder,
        compression_type=CompressionType(form.compression) if form.compression else None,
        datamodule=trained.datamodule if form.compression == _INT8 else None,
    )
    seconds = time.perf_counter() - started
    return Exported(path, sum(file.stat().st_size for file in path.parent.iterdir()), seconds)
