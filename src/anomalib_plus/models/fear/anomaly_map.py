"""Anomaly map and image score from images, reconstructions and the logits of the segmentation network."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from anomalib_plus.layers.blur import check_kernel_size, mean_filter
from anomalib_plus.layers.paper_size import PaperSize
from anomalib_plus.layers.similarity import msgms_distance_map
from anomalib_plus.layers.switchable_map import SwitchableMap

MapType = Literal["raw", "smoothed", "msgms", "smoothed+msgms"]

PAPER_KERNEL = PaperSize(21, 256)


class AnomalyMapGenerator(SwitchableMap):
    """Probability of an anomaly per pixel; its largest local mean is the image score (FEAR, section 5).

    Args:
        smoothing_kernel: Side of the mean filter in pixels (odd); None for 21 at 256 pixels, scaled; 0 switches it off.
        map_type: The probability itself ("raw"), filtered ("smoothed"), the filtered "msgms" of image and
            reconstruction, or the mean of both ("smoothed+msgms"); may be changed at any time, it has no parameters.
            The score is the maximum of the filtered map.

    Raises:
        ValueError: If the kernel is even or negative, or there is no such map.
    """

    map_types: ClassVar[object] = MapType

    def __init__(self, smoothing_kernel: int | None = None, map_type: MapType = "raw") -> None:
        super().__init__()
        if smoothing_kernel is not None:
            check_kernel_size(smoothing_kernel)
        self.smoothing_kernel = PAPER_KERNEL if smoothing_kernel is None else max(smoothing_kernel, 1)
        self.map_type = map_type

    def forward(self, logits: Tensor, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
        """Give scores (B,) and maps (B, 1, H, W), both in [0, 1].

        Args:
            logits: (B, 2, H, W), normal first.
            images: (B, 3, H, W) in [0, 1].
            reconstructions: (B, 3, H, W).
        """
        distances = []
        if self.map_type != "msgms":
            distances.append(torch.softmax(logits, dim=1)[:, 1:])
        if "msgms" in self.map_type:
            distances.append(msgms_distance_map(images, reconstructions).mean(dim=1, keepdim=True))
        raw = torch.stack(distances).mean(dim=0)
        # Rounding in the mean must not leave [0, 1]: torchmetrics would take the scores for logits.
        smooth = mean_filter(raw, self.smoothing_kernel).clamp(0, 1)
        return smooth.amax(dim=(1, 2, 3)), raw if self.map_type == "raw" else smooth
