"""Post-processing of anomaly maps: removal of the background.

The names are imported on first use, because inspection needs ``conformal_math`` without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_plus.post_processing.foreground import MaskFolder as MaskFolder
    from anomalib_plus.post_processing.foreground import OtsuForeground as OtsuForeground
    from anomalib_plus.post_processing.foreground_post_processor import (
        ForegroundPostProcessor as ForegroundPostProcessor,
    )

_MODULES = {
    "ForegroundPostProcessor": "foreground_post_processor",
    "MaskFolder": "foreground",
    "OtsuForeground": "foreground",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
