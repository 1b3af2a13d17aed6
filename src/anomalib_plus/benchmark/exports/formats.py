"""Export formats of anomalib."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from anomalib_plus.benchmark.training import Trained


EAGER = "eager"
"""The model itself, beside its exports."""
_INT8 = "int8_ptq"


class Format(NamedTuple):
    """Export type and compression, as strings because importing anomalib's enums takes seconds."""

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
    """Path, size and duration of an export."""

    path: Path
    size: int
    """Bytes of all its files."""
    seconds: float


def export(trained: "Trained", form: Format, folder: Path) -> Exported:
    """Export a model to a folder by ``Engine.export``, for images of any number and size."""
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
