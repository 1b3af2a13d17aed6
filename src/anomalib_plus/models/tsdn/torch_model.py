"""The TSDN network: one encoder, a decoder for the mask of the anomaly and one for the image without it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch.nn.functional as F
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_plus.layers.backbone import Backbone, stages_by_stride
from anomalib_plus.layers.checks import check_choice, check_input_size
from anomalib_plus.layers.memory_layout import choose_memory_layout
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.models.tsdn.anomaly_map import AnomalyMapGenerator
from anomalib_plus.models.tsdn.decoder import Decoder
from anomalib_plus.models.tsdn.feature_normality import FeatureNormalityEstimator

Gate = Literal["fne", "mask", "none"]
SkipMode = Literal["both", "masked", "anomaly", "none"]

DEFAULT_BACKBONE = "tf_efficientnet_b5.aa_in1k"


class TSDNOutput(NamedTuple):
    """What the loss needs; what the network does not have is None."""

    reconstruction: Tensor
    """(B, 3, H, W) in [0, 1]."""
    mask: Tensor | None
    """Predicted anomalous area (B, 1, H, W) in [0, 1]."""
    features: Tensor
    """Bottleneck before the gate (B, C, h, w)."""
    normality: Tensor | None
    """Logits of the channels' weights (B, C)."""


class TSDNModel(nn.Module):
    """TSDN as a plain network: images in [0, 1] in, reconstructions and masks or anomaly maps out.

    Args:
        backbone: A timm network that gives feature maps at two or more strides.
        pre_trained: Whether its weights are loaded.
        weights: File of its weights, used instead of a download.
        freeze_encoder: Keep its weights and statistics as they are.
        bottleneck_width: Channels of the bottleneck, C.
        decoder_widths: Channels after each decoder block; as many as the backbone halves the size.
        use_mask_decoder: Whether there is a decoder of the mask.
        gate: What suppresses the anomaly in the bottleneck: weights of channels that the estimator gives ("fne"), the
            complement of the predicted mask ("mask"), or nothing.
        skip_mode: Which decoders have skip connections; "masked" is "both", with those of the image decoder multiplied
            by the complement of the predicted mask.
        fne_width: Channels of the estimator's convolution.
        fne_hidden_widths: Widths of its hidden layers.
        fne_size: Side of the map that it flattens.
        map_generator: Turns image and reconstruction into the anomaly map; the paper's if None.

    Raises:
        ValueError: If an argument is out of range, or a gate or skip mode needs the decoder of the mask.
    """

    map_generator: AnomalyMapGenerator

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        pre_trained: bool = True,
        weights: str | Path | None = None,
        freeze_encoder: bool = False,
        bottleneck_width: int = 256,
        decoder_widths: Sequence[int] = (256, 128, 64, 32, 16),
        use_mask_decoder: bool = True,
        gate: Gate = "fne",
        skip_mode: SkipMode = "both",
        fne_width: int = 32,
        fne_hidden_widths: Sequence[int] = (512, 256),
        fne_size: int = 11,
        map_generator: AnomalyMapGenerator | None = None,
    ) -> None:
        super().__init__()
        check_switches(use_mask_decoder, gate, skip_mode)
        if min(bottleneck_width, fne_width, fne_size, *decoder_widths, *fne_hidden_widths) < 1:
            msg = (
                "bottleneck_width, decoder_widths, fne_width, fne_hidden_widths and fne_size must be positive, got "
                f"{bottleneck_width}, {tuple(decoder_widths)}, {fne_width}, {tuple(fne_hidden_widths)} and {fne_size}."
            )
            raise ValueError(msg)
        stages = encoder_stages(backbone)
        self.size_divisor = max(stages)
        halvings = self.size_divisor.bit_length() - 1
        if len(decoder_widths) != halvings:
            msg = (
                f"decoder_widths must have {halvings} entries, because backbone={backbone!r} divides the size by "
                f"{self.size_divisor}, got {tuple(decoder_widths)}."
            )
            raise ValueError(msg)
        self.freeze_encoder = freeze_encoder
        self.gate: Gate = gate
        self.skip_mode: SkipMode = skip_mode
        self.encoder = Backbone(backbone, tuple(stages.values()), pre_trained, weights).requires_grad_(
            not freeze_encoder
        )
        # Linear (section 2.3): after a ReLU, the similarity of a channel with the mask would measure its sparsity.
        self.reduce = nn.Conv2d(self.encoder.channels[-1], bottleneck_width, kernel_size=1)
        widths = dict(zip(stages, self.encoder.channels, strict=True))
        self.skip_strides = tuple(2**exponent for exponent in reversed(range(halvings)))
        offered = [widths.get(stride, 0) for stride in self.skip_strides]
        nothing = [0] * halvings
        self.mask_decoder = (
            Decoder(bottleneck_width, decoder_widths, nothing if skip_mode == "none" else offered, out_channels=1)
            if use_mask_decoder
            else None
        )
        self.image_decoder_skips = skip_mode in {"both", "masked"}
        self.image_decoder = Decoder(
            bottleneck_width, decoder_widths, offered if self.image_decoder_skips else nothing, out_channels=3
        )
        self.estimator = (
            FeatureNormalityEstimator(bottleneck_width, fne_width, fne_hidden_widths, fne_size)
            if gate == "fne"
            else None
        )
        self.map_generator = map_generator or AnomalyMapGenerator(has_mask=use_mask_decoder)
        choose_memory_layout(self, self.encoder.channels[0])

    @property
    def evaluation_needs_mask(self) -> bool:
        """Whether the decoder of the mask must run in evaluation too: for the reconstruction or the anomaly map."""
        return self.gate == "mask" or self.skip_mode == "masked" or self.map_generator.needs_mask

    def train(self, mode: bool = True) -> "TSDNModel":
        """Switch the mode; a frozen encoder stays in evaluation mode, or its statistics would follow the images."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Give the bottleneck (B, C, h, w) of images (B, 3, H, W) and one skip, or None, for each decoder block."""
        maps = dict(zip(self.encoder.strides, self.encoder(images), strict=True))
        return self.reduce(maps[self.size_divisor]), [maps.get(stride) for stride in self.skip_strides]

    def predict_mask(self, features: Tensor, skips: Sequence[Tensor | None]) -> Tensor:
        """Where an anomaly is, (B, 1, H, W) in [0, 1]; there must be a decoder of the mask."""
        if self.mask_decoder is None:
            msg = "This network was built with use_mask_decoder=False."
            raise RuntimeError(msg)
        return self.mask_decoder(features, skips if self.skip_mode != "none" else [None] * len(skips))

    def reconstruct(self, features: Tensor, skips: Sequence[Tensor | None], weights: Tensor | None) -> Tensor:
        """Decode the bottleneck, multiplied by ``weights`` unless None, to images (B, 3, H, W) in [0, 1]."""
        gated = features if weights is None else features * weights
        return self.image_decoder(gated, skips if self.image_decoder_skips else [None] * len(skips))

    def reconstruct_images(self, images: Tensor) -> Tensor:
        """Paint images (B, 3, H, W) in [0, 1] without their anomalies."""
        return self._run(images).reconstruction

    def forward(self, images: Tensor) -> TSDNOutput | InferenceBatch:
        """Reconstruct (training mode) or judge (evaluation mode) images (B, 3, H, W) in [0, 1].

        The decoder of the mask runs in training, and in evaluation only if ``evaluation_needs_mask``. Where the map is
        the predicted mask, that of the image does not run in evaluation.

        Returns:
            ``TSDNOutput`` in training mode, else ``InferenceBatch`` with scores (B,) and maps (B, 1, H, W) in [0, 1].

        Raises:
            ValueError: If height or width is not divisible by ``size_divisor``, or only once: a bottleneck of one
                pixel cannot be normalised over a batch of one image; or if it is smaller than half the window of the
                map's blur.
        """
        smallest = max(2 * self.size_divisor, self.map_generator.blur.smallest_map)
        check_input_size(images, self.size_divisor, "TSDN", minimum=smallest)
        if self.training:
            return self._run(images)
        reconstruction: Tensor | None = None
        if self.map_generator.map_type == "mask":
            mask: Tensor | None = self.predict_mask(*self.encode(images))
        else:
            reconstruction, mask, *_ = self._run(images)
        with full_precision(images.device.type):
            compared = (None if value is None else value.float() for value in (reconstruction, mask))
            score, anomaly_map = self.map_generator(images.float(), *compared)
        return InferenceBatch(pred_score=score, anomaly_map=anomaly_map)

    def _run(self, images: Tensor) -> TSDNOutput:
        features, skips = self.encode(images)
        mask = normality = weights = None
        if self.evaluation_needs_mask or (self.training and self.mask_decoder is not None):
            mask = self.predict_mask(features, skips)
        if self.estimator is not None:
            normality = self.estimator(features)
            weights = normality.sigmoid()[..., None, None]
        elif self.gate == "mask" and mask is not None:
            weights = 1 - shrink(mask, self.size_divisor)
        if self.skip_mode == "masked" and mask is not None:
            pairs = zip(skips, self.skip_strides, strict=True)
            skips = [skip if skip is None else skip * (1 - shrink(mask, stride)) for skip, stride in pairs]
        reconstruction = self.reconstruct(features, skips, weights)
        return TSDNOutput(reconstruction, mask, features, normality)


def check_switches(use_mask_decoder: bool, gate: Gate, skip_mode: SkipMode) -> None:
    """Raise ``ValueError`` unless the parts that the gate and the skip connections need are there."""
    check_choice("gate", gate, Gate)
    check_choice("skip_mode", skip_mode, SkipMode)
    if not use_mask_decoder and gate != "none":
        msg = f"gate={gate!r} needs the decoder of the mask: set use_mask_decoder=True or gate='none'."
        raise ValueError(msg)
    if not use_mask_decoder and skip_mode in {"anomaly", "masked"}:
        msg = (
            f"skip_mode={skip_mode!r} needs the decoder of the mask: set use_mask_decoder=True, or skip_mode to 'both' "
            "or 'none'."
        )
        raise ValueError(msg)


def encoder_stages(backbone: str) -> dict[int, int]:
    """Position of a timm network's last stage at each stride above 1; strides ascend.

    Raises:
        ValueError: If there is no such network, or it does not give maps at strides that are powers of two.
    """
    stages = {stride: position for stride, position in stages_by_stride(backbone).items() if stride > 1}
    if not stages or list(stages) != sorted(stages) or any(stride.bit_count() != 1 for stride in stages):
        msg = f"backbone={backbone!r} gives feature maps at strides {list(stages)}; powers of two in order are needed."
        raise ValueError(msg)
    return stages


def shrink(mask: Tensor, stride: int) -> Tensor:
    """Mean of (B, 1, H, W) over squares of side ``stride``."""
    return F.avg_pool2d(mask, stride)
