"""Inspection of images with an exported model, in Python and by commands; needs no PyTorch for OpenVINO and ONNX."""

from anomalib_plus.inspector.bundle import BundleError, BundleInfo, read_bundle_info, write_bundle_info
from anomalib_plus.inspector.inspection import Inspector, Prediction, UnreadableImageError

__all__ = [
    "BundleError",
    "BundleInfo",
    "Inspector",
    "Prediction",
    "UnreadableImageError",
    "read_bundle_info",
    "write_bundle_info",
]
