"""Metrics that anomalib lacks."""

from anomalib_plus.metrics.per_image_auroc import PerImageAUROC

__all__ = ["PerImageAUROC"]
