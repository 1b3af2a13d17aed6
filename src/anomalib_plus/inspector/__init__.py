"""Inspectors: their build from images of good parts, and inspection, which needs no PyTorch for OpenVINO and ONNX."""

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
