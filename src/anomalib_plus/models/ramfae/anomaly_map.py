"""Anomaly map and image score from an image and its reconstruction."""

from typing import Literal

from torch import Tensor, nn

from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.checks import check_choice
from anomalib_plus.layers.similarity import GMS_CONSTANT, gms_map, msgms_distance_map, ssim_map

MapType = Literal["msgms", "ssim", "gmsd", "mse"]
ImageScore = Literal["max", "mean"]
ChannelReduction = Literal["map_mean", "gray"]


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


class AnomalyMapGenerator(nn.Module):
    """Smoothed anomaly map of a reconstruction (RAMFAE, section 5).

    Args:
        map_type: Distance between image and reconstruction; has no parameters and may be changed at any time.
        image_score: Maximum or mean of the map.
        smoothing_kernel: Side of the Gaussian window in pixels (odd); 0 or None disables smoothing.
        sigma: Standard deviation of the Gaussian in pixels.
        gms_constant: Stabiliser of the gradient similarity.
        channel_reduction: Average the maps of the channels ("map_mean"), or compare the mean of the channels ("gray").

    Raises:
        ValueError: If ``map_type``, ``image_score`` or ``channel_reduction`` is unknown, the kernel is even, kernel or
            deviation is negative, or ``gms_constant`` is not positive.
    """

    def __init__(
        self,
        map_type: MapType = "msgms",
        image_score: ImageScore = "max",
        smoothing_kernel: int | None = 21,
        sigma: float = 3.5,
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
        self.smooth = GaussianBlur(sigma, smoothing_kernel or 0)

    @property
    def map_type(self) -> MapType:
        """The distance in use: ``msgms``, ``ssim``, ``gmsd`` or ``mse``."""
        return self._map_type

    @map_type.setter
    def map_type(self, map_type: MapType) -> None:
        check_choice("anomaly_map", map_type, MapType)
        self._map_type = map_type

    def forward(self, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
        """Compare two batches (B, C, H, W) in [0, 1]; return scores (B,) and maps (B, 1, H, W), both in [0, 1]."""
        if self.channel_reduction == "gray":
            images, reconstructions = (x.mean(dim=1, keepdim=True) for x in (images, reconstructions))
        distance = dissimilarity_map(images, reconstructions, self.map_type, self.gms_constant)
        # Rounding in the blur can leave [0, 1], and torchmetrics takes such scores for logits.
        anomaly_map = self.smooth(distance.mean(dim=1, keepdim=True)).clamp(0, 1)
        pixels = anomaly_map.flatten(1)
        return (pixels.amax(dim=1) if self.image_score == "max" else pixels.mean(dim=1)), anomaly_map
