"""Every file that anomalib can export a model to."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib.deploy import CompressionType, ExportType

if TYPE_CHECKING:
    from anomalib_plus.benchmark.exports.preparation import Prepared


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


def export(prepared: "Prepared", form: Format, folder: Path) -> Exported:
    """Export by ``Engine.export``, for images of any number and size.

    Args:
        prepared: The model.
        form: The kind of export.
        folder: Receives the files.
    """
    started = time.perf_counter()
    path: Any = prepared.engine.export(
        prepared.model,
        form.export_type,
        export_root=folder,
        compression_type=form.compression,
        datamodule=prepared.datamodule if form.compression == CompressionType.INT8_PTQ else None,
    )
    seconds = time.perf_counter() - started
    return Exported(path, sum(file.stat().st_size for file in path.parent.iterdir()), seconds)
