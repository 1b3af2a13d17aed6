"""Synthetic anomalies: batched, reproducible image transforms."""

from anomalib_plus.transforms.delete_paste import Cutout, CutPaste, DeletePaste

__all__ = ["CutPaste", "Cutout", "DeletePaste"]
