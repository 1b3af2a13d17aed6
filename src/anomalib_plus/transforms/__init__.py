"""Synthetic anomalies: batched, reproducible image transforms."""

from anomalib_plus.transforms.delete_paste import Cutout, CutPaste, DeletePaste
from anomalib_plus.transforms.superpixel_filling import SuperpixelFilling

__all__ = ["CutPaste", "Cutout", "DeletePaste", "SuperpixelFilling"]
