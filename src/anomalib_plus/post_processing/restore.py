"""Post-processors of this package, built again from a checkpoint."""

from collections.abc import Mapping
from typing import Any

from anomalib_plus.post_processing.conformal_post_processor import ConformalPostProcessor
from anomalib_plus.post_processing.region_post_processor import RegionPostProcessor

_CLASSES: dict[str, type[RegionPostProcessor]] = {
    kind.__name__: kind for kind in (RegionPostProcessor, ConformalPostProcessor)
}


def restore(config: Mapping[str, Any]) -> RegionPostProcessor | None:
    """Build the post-processor that a checkpoint names; anomalib then restores its settings and thresholds.

    Only these classes can be named, so a checkpoint cannot have other code called.

    Args:
        config: Result of :meth:`.RegionPostProcessor.checkpoint_config`.

    Returns:
        None if it names none of this package.
    """
    kind = _CLASSES.get(str(config.get("class")))
    return kind() if kind else None
