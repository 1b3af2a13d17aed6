"""Metrics that anomalib lacks."""

from anomalib_plus.metrics.per_image_auroc import PerImageAUROC
from anomalib_plus.metrics.size_split_auroc import SizeSplitAUROC

__all__ = ["PerImageAUROC", "SizeSplitAUROC"]
