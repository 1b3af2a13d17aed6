"""Anomaly map and image score from an image, its reconstruction and the predicted mask."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.paper_size import PaperSize
from anomalib_plus.layers.similarity import msgms_distance_map
from anomalib_plus.layers.switchable_map import SwitchableMap

MapType = Literal["color", "msgms", "mask", "msgms+mask"]

PAPER_SIGMA = PaperSize(4.0, 352)


class AnomalyMapGenerator(SwitchableMap):
    """Blurred distance of an image from its reconstruction; its maximum is the score (TSDN, section 3).

    Args:
        sigma: Standard deviation of the Gaussian in pixels; None for 4 at 352 pixels, scaled; 0 switches it off. Its
            window reaches four of them to each side, as in anomalib.
        map_type: Distance of the colours ("color", the paper's), "msgms" of image and reconstruction, the predicted
            "mask", or the mean of the last two ("msgms+mask"); may be changed at any time, it has no parameters.
        has_mask: True if the network predicts a mask.

    Raises:
        ValueError: If ``sigma`` is negative or there is no such map.
    """

    map_types: ClassVar[object] = MapType

    def __init__(self, sigma: float | None = None, map_type: MapType = "color", has_mask: bool = True) -> None:
        super().__init__()
        self.blur = GaussianBlur(PAPER_SIGMA if sigma is None else sigma)
        self.has_mask = has_mask
        self.map_type = map_type

    def check_map(self, map_type: str) -> None:
        """Raise ``ValueError`` if the map shows the mask but the network does not predict one."""
        if "mask" in map_type and not self.has_mask:
            msg = f"anomaly_map={map_type!r} needs the decoder of the mask: set use_mask_decoder=True or another map."
            raise ValueError(msg)

    @property
    def needs_mask(self) -> bool:
        """True if the map shows the predicted mask."""
        return "mask" in self.map_type

    def forward(
        self, images: Tensor, reconstructions: Tensor | None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give scores (B,) and maps (B, 1, H, W), both in [0, 1].

        The Euclidean distance of two colours is divided by its largest value, the root of three.

        Args:
            images: (B, 3, H, W) in [0, 1].
            reconstructions: The same; None will do for the map "mask".
            masks: (B, 1, H, W) in [0, 1]; must be there if ``needs_mask``.
        """
        distances = []
        if reconstructions is not None and self.map_type == "color":
            difference = torch.linalg.vector_norm(images - reconstructions, dim=1, keepdim=True)
            distances.append(difference / math.sqrt(images.shape[1]))
        if reconstructions is not None and "msgms" in self.map_type:
            distances.append(msgms_distance_map(images, reconstructions).mean(dim=1, keepdim=True))
        if masks is not None and self.needs_mask:
            distances.append(masks)
        # Rounding in the blur must not leave [0, 1]: torchmetrics would take the scores for logits.
        anomaly_map = self.blur(torch.stack(distances).mean(dim=0)).clamp(0, 1)
        return anomaly_map.amax(dim=(1, 2, 3)), anomaly_map
