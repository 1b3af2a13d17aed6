"""Runtimes that compute an exported model."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_plus.deployment.openvino_core import openvino_core
from anomalib_plus.image_files import printable
from anomalib_plus.inspector.bundle import MODEL_FILES, RUNTIMES, BundleError, BundleInfo, version_of

Outputs = dict[str, NDArray[Any]]
Runtime = Callable[[NDArray[np.float32]], Outputs]
"""Computes the named outputs of a batch of images (B, 3, H, W) in [0, 1]. Threads may share it."""


def load_runtime(folder: Path, info: BundleInfo) -> tuple[Runtime, tuple[int | None, int | None]]:
    """Load the model of a bundle.

    Returns:
        The runtime, and the height and width of the images that the model takes; None where any number will do.

    Raises:
        BundleError: If the runtime cannot load the model, or the model lacks an output.
    """
    file = folder / MODEL_FILES[info.format][0]
    try:
        return _LOADERS[info.format](file)
    except BundleError:
        raise
    except Exception as error:  # each runtime has errors of its own
        package = RUNTIMES[info.format]
        msg = (
            f"{printable(file)} cannot be loaded by {package} {version_of(package)}; the bundle was built with "
            f"{info.versions.get(package, 'unknown')}. {type(error).__name__}: {' '.join(str(error).split())}"
        )
        raise BundleError(msg) from error


def _check_outputs(names: Iterable[str], file: Path) -> None:
    if missing := [name for name in ("pred_score", "anomaly_map") if name not in names]:
        msg = (
            f"{printable(file)} has no output {' and '.join(missing)}: export a model that predicts a score and a map."
        )
        raise BundleError(msg)


def _load_openvino(file: Path) -> tuple[Runtime, tuple[int | None, int | None]]:
    import openvino

    # The first access to a tensor's data sets up the binding of NumPy: two threads that do it at a time wait for ever.
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    # Single precision: the default on some processors is bfloat16, whose scores do not fit the calibration scores.
    network = openvino_core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    # An output may have further names, and unlike anomalib's inferencer this one must not take the first.
    indices = {name: index for index, output in enumerate(network.outputs) for name in output.get_names()}
    _check_outputs(indices, file)
    threads = threading.local()  # an inference request serves one thread at a time

    def run(images: NDArray[np.float32]) -> Outputs:
        if not hasattr(threads, "request"):
            threads.request = network.create_infer_request()
        results = threads.request.infer([images])
        return {name: np.array(results[index]) for name, index in indices.items()}

    height, width = (None if size.is_dynamic else size.get_length() for size in network.input(0).partial_shape[2:])
    return run, (height, width)


def _load_onnx(file: Path) -> tuple[Runtime, tuple[int | None, int | None]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (expected,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    _check_outputs(names, file)

    def run(images: NDArray[np.float32]) -> Outputs:
        return dict(zip(names, session.run(names, {expected.name: images}), strict=True))

    height, width = (size if isinstance(size, int) else None for size in expected.shape[2:])
    return run, (height, width)


def _load_torch(file: Path) -> tuple[Runtime, tuple[int | None, int | None]]:
    import torch
    from anomalib.deploy import TorchInferencer

    model = TorchInferencer(file, device="cpu").model
    lock = threading.Lock()  # a module may keep state between its layers

    def run(images: NDArray[np.float32]) -> Outputs:
        with lock, torch.inference_mode():
            predictions = model(torch.from_numpy(images))
        return {name: value.numpy() for name, value in predictions._asdict().items() if value is not None}

    return run, (None, None)


_LOADERS = {"openvino": _load_openvino, "onnx": _load_onnx, "torch": _load_torch}
