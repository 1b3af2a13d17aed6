"""Post-processors of this package, built again from a checkpoint."""

from collections.abc import Mapping
from typing import Any

from anomalib_plus.post_processing.conformal_post_processor import ConformalPostProcessor
from anomalib_plus.post_processing.region_post_processor import RegionPostProcessor


def restore(config: Any) -> RegionPostProcessor | None:
    """Build the post-processor that a checkpoint names; anomalib then restores its settings and thresholds.

    Only these classes can be named, so a checkpoint cannot have other code called.

    Args:
        config: Result of :meth:`.RegionPostProcessor.checkpoint_config`.

    Returns:
        None if it names none of this package.
    """
    name = config.get("class") if isinstance(config, Mapping) else None
    if name == ConformalPostProcessor.__name__:
        return ConformalPostProcessor(config["false_positive_rate"], confidence=config["confidence"])
    return RegionPostProcessor() if name == RegionPostProcessor.__name__ else None
