"""How quantities are named and how numbers are written."""

from .summary import Figure

_CAPITALS = {"auroc": "AUROC", "ap": "AP", "aupro": "AUPRO", "pro": "PRO", "roc": "ROC", "f1": "F1"}
_DEFECT_SIZES = {"small", "middle", "large"}
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
_MILLION = 1e6
MISSING = "\N{EN DASH}"


def metric_title(name: str) -> str:
    """``image_f1_max`` becomes "image F1 max", ``image_auroc_small`` "image AUROC, small defects"."""
    stem, _, size = name.rpartition("_")
    if size in _DEFECT_SIZES:
        return f"{metric_title(stem)}, {size} defects"
    return " ".join(_CAPITALS.get(word, word) for word in name.split("_"))


def cost_title(name: str) -> str:
    """What a cost is called in tables, with its unit."""
    return _COST_TITLES.get(name, name.replace("_", " "))


def cost_value(name: str, value: float) -> float:
    """A cost in the unit that its title names."""
    return value / _MILLION if name.endswith("parameters") else value


def cost_text(name: str, value: float) -> str:
    """A cost to three significant digits, or to a whole number from 100 on."""
    value = cost_value(name, value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """0.9812 as "98.1"."""
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """-0.0123 as "−1.2", in percentage points with a minus sign that tables align."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def figure_text(figure: Figure) -> str:
    """Mean and spread in percent: "98.1 ± 0.4"; the mean alone for a single seed."""
    return percent(figure.mean) if figure.std is None else f"{percent(figure.mean)} ± {percent(figure.std)}"
