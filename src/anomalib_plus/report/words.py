"""Titles of metrics and costs, and formats of numbers."""

from anomalib_plus.benchmark.protocol import SIZES
from anomalib_plus.report.summary import Figure

_CAPITALS = {"auroc": "AUROC", "ap": "AP", "aupro": "AUPRO", "pro": "PRO", "roc": "ROC", "f1": "F1"}
_COST_TITLES = {
    "fit_seconds": "training (s)",
    "parameters": "parameters (M)",
    "trainable_parameters": "trainable parameters (M)",
    "gmacs": "GMACs",
    "latency_ms_batch1": "latency, one image (ms)",
    "latency_ms_batch": "latency, one batch (ms)",
    "batch": "images in that batch",
    "throughput_images_per_second": "images per second",
    "peak_memory_mib": "peak memory (MiB)",
}
MISSING = "\N{EN DASH}"


def metric_title(name: str) -> str:
    """Convert ``image_f1_max`` to "image F1 max", ``image_auroc_small`` to "image AUROC, small defects"."""
    stem, _, size = name.rpartition("_")
    if size in SIZES:
        return f"{metric_title(stem)}, {size} defects"
    return " ".join(_CAPITALS.get(word, word) for word in name.split("_"))


def cost_title(name: str) -> str:
    """Return the title of a cost, with its unit."""
    return _COST_TITLES.get(name, name.replace("_", " "))


def cost_value(name: str, value: float) -> float:
    """Convert a cost to the unit of its title."""
    return value / 1e6 if name.endswith("parameters") else value


def cost_text(name: str, value: float) -> str:
    """Format a cost with three significant digits, or as an integer from 100 on."""
    value = cost_value(name, value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """Format 0.9812 as "98.1"."""
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """Format -0.0123 as "−1.2" percentage points, with a typographic minus sign."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def figure_text(figure: Figure) -> str:
    """Format mean and spread in percent, "98.1 ± 0.4"; the mean alone for a single seed."""
    return percent(figure.mean) if figure.std is None else f"{percent(figure.mean)} ± {percent(figure.std)}"
