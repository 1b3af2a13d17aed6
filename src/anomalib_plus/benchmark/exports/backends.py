"""Backends of a model: the eager module, the compiled one, and the runtimes of the exported files."""

import copy
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_plus.benchmark.exports.formats import EAGER, Exported
from anomalib_plus.deployment.fixed_shape import read_with_fixed_shape
from anomalib_plus.deployment.openvino_core import openvino_core
from anomalib_plus.deployment.resizing import pre_process

Images = NDArray[np.float32]
"""(B, 3, H, W) in [0, 1]."""
Outputs = dict[str, NDArray]
"""``pred_score`` (B,), ``anomaly_map`` (B, 1, H, W) and, with thresholds, ``pred_label`` and ``pred_mask``."""
Predict = Callable[[Images], Outputs]
Result = TypeVar("Result")

_OPENVINO: dict[str, tuple[str, str | None, bool]] = {
    "OpenVINO FP32": ("OpenVINO FP32", "f32", False),
    "OpenVINO FP16": ("OpenVINO FP16", "f32", False),
    "OpenVINO INT8": ("OpenVINO INT8", "f32", False),
    "OpenVINO, its own precision": ("OpenVINO FP32", None, False),
    "OpenVINO FP32, fixed shape": ("OpenVINO FP32", "f32", True),
    "OpenVINO INT8, fixed shape": ("OpenVINO INT8", "f32", True),
    "OpenVINO, its own precision, fixed shape": ("OpenVINO FP32", None, True),
}
"""File format, precision and fixed shape (True or False) by the backend's name."""


def attempt(work: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Return the result and None, or None and the exception as one line; the traceback is printed."""
    try:
        return work(), None
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        return None, f"{type(error).__name__}: {lines[0]}"


def open_backends(
    model: Any, exports: Mapping[str, Exported], threads: int
) -> tuple[dict[str, Predict], dict[str, str]]:
    """Open every backend whose exported file exists; return backends by name, and the errors of the others."""
    makers: dict[str, Callable[[], Predict]] = {
        EAGER: partial(eager_backend, model),
        "torch.compile": partial(compiled_backend, model),
    }
    if "ONNX" in exports:
        makers["ONNX Runtime"] = partial(onnx_backend, exports["ONNX"].path, threads)
    for name, (form, precision, fixed_shape) in _OPENVINO.items():
        if form in exports:
            makers[name] = partial(openvino_backend, exports[form].path, threads, precision, fixed_shape)
    backends, errors = {}, {}
    for name, make in makers.items():
        predict, error = attempt(make)
        if predict is None:
            errors[name] = error or ""
        else:
            backends[name] = predict
    return backends, errors


def eager_backend(run: Callable[[Tensor], Any]) -> Predict:
    """Eager forward pass of a module, as it is exported, or of another function of the images."""

    @torch.inference_mode()
    def predict(images: Images) -> Outputs:
        outputs = run(torch.from_numpy(images))._asdict()
        return {name: value.numpy() for name, value in outputs.items() if value is not None}

    return predict


def engine_backend(model: Any) -> Predict:
    """Module as anomalib's engine runs it, which resizes images with antialiasing."""

    def run(images: Tensor) -> Any:
        outputs = model.model(pre_process(model.pre_processor, images))
        return model.post_processor(outputs) if model.post_processor else outputs

    return eager_backend(run)


def compiled_backend(model: Any) -> Predict:
    """Module with its network compiled by ``torch.compile``; resizing is left out, it would be recompiled per size."""
    twin = copy.copy(model)
    twin._modules = {**model._modules, "model": torch.compile(model.model, dynamic=False)}
    return eager_backend(twin)


def onnx_backend(path: Path, threads: int) -> Predict:
    """Open an ONNX file with ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    source = session.get_inputs()[0].name
    return lambda images: dict(zip(names, session.run(names, {source: images}), strict=True))


def openvino_backend(path: Path, threads: int, precision: str | None, fixed_shape: bool) -> Predict:
    """Open an OpenVINO file (``.xml``) on the CPU.

    Precision ``f32`` computes layers that are not quantised in single precision; None leaves the choice to OpenVINO,
    bfloat16 on CPUs with instructions for it. ``fixed_shape`` compiles the network again for each shape of images.
    """
    import openvino
    from openvino import properties
    from openvino.properties import hint

    options: dict[str, Any] = {properties.inference_num_threads(): threads}
    if precision is not None:
        options[hint.inference_precision()] = precision
    core = openvino_core()

    @lru_cache(maxsize=1)
    def compiled(shape: tuple[int, int, int, int] | None) -> openvino.CompiledModel:
        network = read_with_fixed_shape(path, shape) if shape else core.read_model(path)
        return core.compile_model(network, "CPU", options)

    def predict(images: Images) -> Outputs:
        network = compiled(images.shape if fixed_shape else None)
        names = [next(iter(output.get_names())) for output in network.outputs]
        return dict(zip(names, network(images).to_tuple(), strict=True))

    return predict
