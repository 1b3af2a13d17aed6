"""Post-processing of anomaly maps: removal of the background."""

from anomalib_plus.post_processing.foreground import MaskFolder, OtsuForeground
from anomalib_plus.post_processing.foreground_post_processor import ForegroundPostProcessor

__all__ = ["ForegroundPostProcessor", "MaskFolder", "OtsuForeground"]
