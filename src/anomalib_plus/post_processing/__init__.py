"""Post-processing of scores and anomaly maps: thresholds from good images, regions of interest.

Names are loaded at first use, so that ``post_processing.conformal_math`` loads neither torch nor anomalib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_plus.post_processing.conformal_post_processor import ConformalPostProcessor
    from anomalib_plus.post_processing.foreground import MaskFolder, OtsuForeground
    from anomalib_plus.post_processing.region_post_processor import RegionPostProcessor

_MODULES = {
    "ConformalPostProcessor": "conformal_post_processor",
    "MaskFolder": "foreground",
    "OtsuForeground": "foreground",
    "RegionPostProcessor": "region_post_processor",
}

__all__ = ["ConformalPostProcessor", "MaskFolder", "OtsuForeground", "RegionPostProcessor"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
