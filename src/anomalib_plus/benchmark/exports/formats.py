"""Every file that anomalib can export a model to."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib.deploy import CompressionType, ExportType

if TYPE_CHECKING:
    from anomalib_plus.benchmark.training import Trained


class Format(NamedTuple):
    """A kind of export."""

    export_type: ExportType
    compression: CompressionType | None = None


FORMATS = {
    "torch": Format(ExportType.TORCH),
    "ONNX": Format(ExportType.ONNX),
    "OpenVINO FP32": Format(ExportType.OPENVINO),
    "OpenVINO FP16": Format(ExportType.OPENVINO, CompressionType.FP16),
    "OpenVINO INT8": Format(ExportType.OPENVINO, CompressionType.INT8_PTQ),
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
    started = time.perf_counter()
    path: Any = trained.engine.export(
        trained.model,
        form.export_type,
        export_root=folder,
        compression_type=form.compression,
        datamodule=trained.datamodule if form.compression == CompressionType.INT8_PTQ else None,
    )
    seconds = time.perf_counter() - started
    return Exported(path, sum(file.stat().st_size for file in path.parent.iterdir()), seconds)
