"""TSDN's network: an encoder, a decoder for the mask of the anomaly and one for the image without it."""

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
    """Output in training mode; None for parts that the network lacks."""

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

    Args: Those of :class:`~anomalib_plus.models.tsdn.lightning_model.TSDN` of the same name, and ``map_generator``,
        which computes the anomaly map; the paper's if None.

    Raises:
        ValueError: If an argument is out of range, or a gate or skip mode needs the mask decoder.
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
        skip_widths = [widths.get(stride, 0) for stride in self.skip_strides]
        no_skips = [0] * halvings
        self.mask_decoder = (
            Decoder(bottleneck_width, decoder_widths, no_skips if skip_mode == "none" else skip_widths, out_channels=1)
            if use_mask_decoder
            else None
        )
        self.image_decoder_skips = skip_mode in {"both", "masked"}
        self.image_decoder = Decoder(
            bottleneck_width, decoder_widths, skip_widths if self.image_decoder_skips else no_skips, out_channels=3
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
        """True if the decoder of the mask must run in evaluation too: for the reconstruction or the anomaly map."""
        return self.gate == "mask" or self.skip_mode == "masked" or self.map_generator.needs_mask

    def train(self, mode: bool = True) -> "TSDNModel":
        """Set the mode, but keep a frozen encoder in evaluation mode, so that its batch statistics stay fixed."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Encode images (B, 3, H, W) to the bottleneck (B, C, h, w) and one skip, or None, for each decoder block."""
        maps = dict(zip(self.encoder.strides, self.encoder(images), strict=True))
        return self.reduce(maps[self.size_divisor]), [maps.get(stride) for stride in self.skip_strides]

    def predict_mask(self, features: Tensor, skips: Sequence[Tensor | None]) -> Tensor:
        """Predict the anomalous area (B, 1, H, W) in [0, 1].

        Raises:
            RuntimeError: If there is no mask decoder.
        """
        if self.mask_decoder is None:
            msg = "This TSDN predicts no mask, because it was built with use_mask_decoder=False."
            raise RuntimeError(msg)
        return self.mask_decoder(features, skips if self.skip_mode != "none" else [None] * len(skips))

    def reconstruct(self, features: Tensor, skips: Sequence[Tensor | None], weights: Tensor | None) -> Tensor:
        """Decode the bottleneck, multiplied by ``weights`` if given, to images (B, 3, H, W) in [0, 1]."""
        gated = features if weights is None else features * weights
        return self.image_decoder(gated, skips if self.image_decoder_skips else [None] * len(skips))

    def reconstruct_images(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, 3, H, W) in [0, 1] without their anomalies."""
        return self._run(images).reconstruction

    def forward(self, images: Tensor) -> TSDNOutput | InferenceBatch:
        """Reconstruct (training mode) or predict (evaluation mode) for images (B, 3, H, W) in [0, 1].

        The decoder of the mask runs in training, and in evaluation only if ``evaluation_needs_mask``. Where the map is
        the predicted mask, that of the image does not run in evaluation.

        Returns:
            ``TSDNOutput`` in training mode, else ``InferenceBatch`` with scores (B,) and maps (B, 1, H, W) in [0, 1].

        Raises:
            ValueError: If height or width is not divisible by ``size_divisor``, smaller than twice that, or smaller
                than half the window of the map's blur.
        """
        # Twice, because a bottleneck of one pixel cannot be normalised over a batch of one image.
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
            weights = 1 - F.avg_pool2d(mask, self.size_divisor)
        if self.skip_mode == "masked" and mask is not None:
            pairs = zip(skips, self.skip_strides, strict=True)
            skips = [skip if skip is None else skip * (1 - F.avg_pool2d(mask, stride)) for skip, stride in pairs]
        reconstruction = self.reconstruct(features, skips, weights)
        return TSDNOutput(reconstruction, mask, features, normality)


def check_switches(use_mask_decoder: bool, gate: Gate, skip_mode: SkipMode) -> None:
    """Raise ``ValueError`` if the gate or the skip connections need a mask decoder and there is none."""
    check_choice("gate", gate, Gate)
    check_choice("skip_mode", skip_mode, SkipMode)
    if not use_mask_decoder and gate != "none":
        msg = f"gate={gate!r} needs the mask decoder: set use_mask_decoder=True or gate='none'."
        raise ValueError(msg)
    if not use_mask_decoder and skip_mode in {"anomaly", "masked"}:
        msg = (
            f"skip_mode={skip_mode!r} needs the mask decoder: set use_mask_decoder=True, or skip_mode to 'both' or "
            "'none'."
        )
        raise ValueError(msg)


def encoder_stages(backbone: str) -> dict[int, int]:
    """Map each stride above 1 of a timm network, in ascending order, to the index of its last stage.

    Raises:
        ValueError: If there is no such network, or its strides are not ascending powers of two.
    """
    stages = {stride: index for stride, index in stages_by_stride(backbone).items() if stride > 1}
    if not stages or list(stages) != sorted(stages) or any(stride.bit_count() != 1 for stride in stages):
        msg = f"The strides of backbone={backbone!r} must be ascending powers of two, got {list(stages)}."
        raise ValueError(msg)
    return stages
