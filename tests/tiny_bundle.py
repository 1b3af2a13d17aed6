"""A bundle with a model of three operations, which starts in no time."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from anomalib_plus.inspector import BundleInfo, write_bundle_info

CALIBRATION = tuple((np.arange(1, 100) / 200).tolist())
"""99 scores from 0.005 to 0.495."""


def write_tiny_bundle(folder: Path, size: tuple[int | str, int | str] = ("height", "width"), **changes: object) -> Path:
    """Write an ONNX bundle whose map is the red channel and whose score is the map's largest value."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(tiny_model(size), folder / "model.onnx")
    options = {"name": "Tiny", "format": "onnx", "image_size": (32, 32), "calibration_scores": CALIBRATION, **changes}
    write_bundle_info(folder, BundleInfo(**options))
    return folder


def tiny_model(size: tuple[int | str, int | str] = ("height", "width")) -> onnx.ModelProto:
    """Build the model with the names that anomalib gives to inputs and outputs."""
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "axes": np.array([1, 2, 3], np.int64),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["input", "zero", "one", "one"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["pred_score"], keepdims=0),
        helper.make_node("Greater", ["anomaly_map", "half"], ["pred_mask"]),
        helper.make_node("Greater", ["pred_score", "half"], ["pred_label"]),
    ]
    outputs = [
        helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("pred_label", TensorProto.BOOL, ["batch"]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", 1, *size]),
        helper.make_tensor_value_info("pred_mask", TensorProto.BOOL, ["batch", 1, *size]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, *size])],
        outputs,
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
