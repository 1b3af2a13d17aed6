"""Synthetic anomalies: batched, reproducible image transforms."""

from anomalib_plus.transforms.delete_paste import DeletePaste

__all__ = ["DeletePaste"]
