"""Rules of the evaluation, stored with every result because each of them affects the numbers."""

from dataclasses import dataclass
from typing import Any, Literal

SIZES: tuple[Literal["small", "middle", "large"], ...] = ("small", "middle", "large")
_PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "pixel_auroc_per_image")
METRICS = ("image_auroc", "image_ap", "image_f1_max", *_PIXEL_METRICS, *(f"image_auroc_{size}" for size in SIZES))

MaskRule = Literal["nearest, > 0.5", "area, > 0"]


@dataclass(frozen=True)
class Protocol:
    """Rules of the evaluation.

    Args:
        image_size: Height and width to which every model's own pre-processor resizes.
        mask_rule: Resizing of the masks: "nearest, > 0.5", or "area, > 0", where a pixel is anomalous if any part of it
            is.
        map_size: Height and width of maps and masks in the comparison; None for ``image_size``.
        smoothing_sigma: Standard deviation in pixels of a Gaussian filter on the maps, in addition to the model's own
            smoothing; 0 for none.
        metrics: Metrics to compute. ``aupro`` and the pixel metrics are null without masks.
        aupro_fpr_limit: False positive rate up to which the per-region overlap is integrated.
        defect_size_bounds: Smallest shares of the image's area of middle-sized and of large defects.
    """

    image_size: tuple[int, int] = (256, 256)
    mask_rule: MaskRule = "nearest, > 0.5"
    map_size: tuple[int, int] | None = None
    smoothing_sigma: float = 0.0
    metrics: tuple[str, ...] = METRICS
    aupro_fpr_limit: float = 0.3
    defect_size_bounds: tuple[float, float] = (0.05, 0.2)

    def __post_init__(self) -> None:
        """Check ranges."""
        unknown = [metric for metric in self.metrics if metric not in METRICS]
        if unknown:
            msg = f"there is no metric {unknown[0]!r}; available: {', '.join(METRICS)}."
            raise ValueError(msg)
        if min(*self.image_size, *(self.map_size or (1,))) < 1:
            msg = f"sizes must be positive, got {self.image_size} and {self.map_size}."
            raise ValueError(msg)
        if not 0 < self.aupro_fpr_limit <= 1:
            msg = f"aupro_fpr_limit must lie in (0, 1], got {self.aupro_fpr_limit}."
            raise ValueError(msg)
        if self.smoothing_sigma < 0:
            msg = f"smoothing_sigma must not be negative, got {self.smoothing_sigma}."
            raise ValueError(msg)
        if not 0 < self.defect_size_bounds[0] <= self.defect_size_bounds[1] < 1:
            msg = f"defect_size_bounds must ascend between 0 and 1, got {self.defect_size_bounds}."
            raise ValueError(msg)

    @property
    def size_of_maps(self) -> tuple[int, int]:
        """Height and width of maps and masks in the comparison."""
        return self.map_size or self.image_size

    def as_record(self) -> dict[str, Any]:
        """Return the protocol for a record."""
        own = "the model's own"
        smoothing = f"{own}, then Gaussian, sigma {self.smoothing_sigma:g} px" if self.smoothing_sigma else own
        return {
            "image_size": list(self.image_size),
            "mask_rule": self.mask_rule,
            "map_size": list(self.size_of_maps),
            "smoothing": smoothing,
            "ranking": "raw scores",
            "metrics": list(self.metrics),
            "aupro_fpr_limit": self.aupro_fpr_limit,
            "defect_size_bounds": list(self.defect_size_bounds),
            "checkpoint": "last epoch",
        }
