"""Anomaly map and image score from the logits of the segmentation network."""

import torch
from torch import Tensor, nn

from anomalib_plus.layers.blur import mean_filter


class AnomalyMapGenerator(nn.Module):
    """Probability of an anomaly per pixel; its largest local mean is the image score (FEAR, section 5).

    Args:
        smoothing_kernel: Side of the mean filter in pixels (odd); 0 or None disables it.
        smooth_anomaly_map: Return the filtered map instead of the raw one; the score is the same.

    Raises:
        ValueError: If the kernel is even or negative.
    """

    def __init__(self, smoothing_kernel: int | None = 21, smooth_anomaly_map: bool = False) -> None:
        super().__init__()
        self.smoothing_kernel = smoothing_kernel or 1
        self.smooth_anomaly_map = smooth_anomaly_map
        if self.smoothing_kernel < 1 or self.smoothing_kernel % 2 == 0:
            msg = f"smoothing_kernel must be odd (or 0 to switch smoothing off), got {smoothing_kernel}."
            raise ValueError(msg)

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Map logits (B, 2, H, W), normal first, to scores (B,) and maps (B, 1, H, W), both in [0, 1]."""
        raw = torch.softmax(logits, dim=1)[:, 1:]
        # Rounding in the mean can leave [0, 1], and torchmetrics takes such scores for logits.
        smooth = mean_filter(raw, self.smoothing_kernel).clamp(0, 1)
        return smooth.amax(dim=(1, 2, 3)), smooth if self.smooth_anomaly_map else raw
