"""Export to ONNX and OpenVINO, INT8 quantisation, and fixed shapes."""

import sys

# OpenVINO and nncf send telemetry to Google unless this module is missing. Not in a function, because a process that
# multiprocessing spawns imports this package before it calls anything.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
