"""Anomaly map and image score from an image and its reconstruction."""

from typing import ClassVar, Literal, cast

from torch import Tensor

from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.checks import check_choice
from anomalib_plus.layers.paper_size import PaperSize
from anomalib_plus.layers.similarity import GMS_CONSTANT, gms_map, msgms_distance_map, ssim_map
from anomalib_plus.layers.switchable_map import SwitchableMap

MapType = Literal["msgms", "ssim", "gmsd", "mse"]
ImageScore = Literal["max", "mean"]
ChannelReduction = Literal["map_mean", "gray"]

PAPER_KERNEL = PaperSize(21, 256)
PAPER_SIGMA = PaperSize(3.5, 256)


def dissimilarity_map(
    images: Tensor, reconstructions: Tensor, map_type: MapType, gms_constant: float = GMS_CONSTANT
) -> Tensor:
    """Compare two batches (B, C, H, W) in [0, 1] by pixel and channel; (B, C, H, W) in [0, 1].

    ``msgms`` is the mean of ``1 - GMS`` over four scales (eq. 12), ``ssim`` is ``(1 - SSIM) / 2``, ``gmsd`` is the
    pixel's summand in eq. 11, ``(GMS - mean GMS)^2``, and ``mse`` the squared difference.
    """
    if map_type == "msgms":
        return msgms_distance_map(images, reconstructions, constant=gms_constant)
    if map_type == "ssim":
        return (1 - ssim_map(images, reconstructions)) / 2
    if map_type == "gmsd":
        gms = gms_map(images, reconstructions, gms_constant)
        return (gms - gms.mean(dim=(-2, -1), keepdim=True)).square()
    return (images - reconstructions).square()


def check_gms_constant(constant: float) -> None:
    """Raise ``ValueError`` unless ``constant`` is positive; with 0, the similarity of flat patches is 0 / 0."""
    if constant <= 0:
        msg = f"gms_constant must be positive, got {constant}."
        raise ValueError(msg)


class AnomalyMapGenerator(SwitchableMap):
    """Smoothed anomaly map of a reconstruction (RAMFAE, section 5).

    Args:
        map_type: Distance between image and reconstruction; may be changed at any time, it has no parameters.
        image_score: Maximum or mean of the map.
        smoothing_kernel: Side of the Gaussian window in pixels (odd); None for 21 at 256 pixels, scaled; 0 switches
            smoothing off.
        sigma: Standard deviation of the Gaussian in pixels; None for 3.5 at 256 pixels, scaled; 0 switches it off.
        gms_constant: Stabiliser of the gradient similarity.
        channel_reduction: Average the maps of the channels ("map_mean"), or compare the mean of the channels ("gray").

    Raises:
        ValueError: If ``map_type``, ``image_score`` or ``channel_reduction`` is unknown, the kernel is even, kernel or
            deviation is negative, or ``gms_constant`` is not positive.
    """

    map_types: ClassVar[object] = MapType

    def __init__(
        self,
        map_type: MapType = "msgms",
        image_score: ImageScore = "max",
        smoothing_kernel: int | None = None,
        sigma: float | None = None,
        gms_constant: float = GMS_CONSTANT,
        channel_reduction: ChannelReduction = "map_mean",
    ) -> None:
        super().__init__()
        check_choice("image_score", image_score, ImageScore)
        check_choice("channel_reduction", channel_reduction, ChannelReduction)
        check_gms_constant(gms_constant)
        self.map_type = map_type
        self.image_score = image_score
        self.gms_constant = gms_constant
        self.channel_reduction = channel_reduction
        self.smooth = GaussianBlur(
            PAPER_SIGMA if sigma is None else sigma,
            PAPER_KERNEL if smoothing_kernel is None else smoothing_kernel,
        )

    def forward(self, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
        """Compare two batches (B, C, H, W) in [0, 1]; return scores (B,) and maps (B, 1, H, W), both in [0, 1]."""
        if self.channel_reduction == "gray":
            images, reconstructions = (x.mean(dim=1, keepdim=True) for x in (images, reconstructions))
        distance = dissimilarity_map(images, reconstructions, cast("MapType", self.map_type), self.gms_constant)
        # Rounding in the blur can leave [0, 1], and torchmetrics takes such scores for logits.
        anomaly_map = self.smooth(distance.mean(dim=1, keepdim=True)).clamp(0, 1)
        pixels = anomaly_map.flatten(1)
        return (pixels.amax(dim=1) if self.image_score == "max" else pixels.mean(dim=1)), anomaly_map
