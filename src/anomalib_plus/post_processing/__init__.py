"""Post-processing of scores and anomaly maps: thresholds from good images, regions of interest.

Names are loaded at first use, so that ``post_processing.conformal_math`` loads neither torch nor anomalib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_plus.post_processing.conformal_post_processor import ConformalPostProcessor
    from anomalib_plus.post_processing.decision_evaluator import DecisionEvaluator
    from anomalib_plus.post_processing.decision_rates import compute_decision_rates
    from anomalib_plus.post_processing.foreground import MaskFolder, OtsuForeground
    from anomalib_plus.post_processing.region_post_processor import RegionPostProcessor
    from anomalib_plus.post_processing.region_visualizer import RegionVisualizer

_MODULES = {
    "ConformalPostProcessor": "conformal_post_processor",
    "DecisionEvaluator": "decision_evaluator",
    "MaskFolder": "foreground",
    "OtsuForeground": "foreground",
    "RegionPostProcessor": "region_post_processor",
    "RegionVisualizer": "region_visualizer",
    "compute_decision_rates": "decision_rates",
}

__all__ = [
    "ConformalPostProcessor",
    "DecisionEvaluator",
    "MaskFolder",
    "OtsuForeground",
    "RegionPostProcessor",
    "RegionVisualizer",
    "compute_decision_rates",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
