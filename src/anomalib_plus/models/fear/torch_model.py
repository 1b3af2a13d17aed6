"""FEAR's networks: an autoencoder with channel attention in its encoder, and a U-Net for segmentation."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from anomalib.data import InferenceBatch
from anomalib.models.image.draem.torch_model import (
    DecoderReconstructive,
    DiscriminativeSubNetwork,
    EncoderReconstructive,
)
from timm.layers import EcaModule
from torch import Tensor, nn

from anomalib_plus.layers.checks import check_input_size
from anomalib_plus.layers.memory_layout import choose_memory_layout
from anomalib_plus.layers.precision import full_precision
from anomalib_plus.models.fear.anomaly_map import AnomalyMapGenerator

ENCODER_STAGES = (1, 2, 3, 4, 5)
STAGE_WIDTHS = (1, 2, 4, 8, 8)
"""Channels of each encoder stage in units of the base width."""


class FEAROutput(NamedTuple):
    """Output in training mode: reconstructions (B, 3, H, W) and logits (B, 2, H, W), normal first."""

    reconstruction: Tensor
    logits: Tensor


class EncoderStage(nn.Module):
    """Convolution block, efficient channel attention and 2x2 max pooling.

    The attention multiplies each channel by a positive gate, so pooling before the multiplication gives the same result
    with a quarter of the work and memory.
    """

    def __init__(self, block: nn.Module, attention: EcaModule | None, pool: bool) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.pool = pool

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / 2, W / 2), or to full size if the stage does not pool."""
        features = self.block(images)
        output = F.max_pool2d(features, 2) if self.pool else features
        return output if self.attention is None else output * channel_gates(self.attention, features)


def channel_gates(attention: EcaModule, features: Tensor) -> Tensor:
    """Compute the gates (B, C, 1, 1) in (0, 1) of the channels of features (B, C, H, W) (eq. 3)."""
    means = features.mean(dim=(2, 3)).unsqueeze(1)
    return attention.gate(attention.conv(means)).squeeze(1)[..., None, None]


class FEARModel(nn.Module):
    """FEAR as plain networks: images in [0, 1] in, reconstructions and logits or anomaly maps out.

    Both networks are those of anomalib's DRAEM, with channel attention added to the autoencoder.

    Args: Those of :class:`~anomalib_plus.models.fear.lightning_model.FEAR` of the same name, and ``map_generator``,
        which computes anomaly map and score; the paper's if None.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    size_divisor = 32
    map_generator: AnomalyMapGenerator

    def __init__(
        self,
        reconstruction_width: int = 128,
        segmentation_width: int = 64,
        eca_stages: Sequence[int] = ENCODER_STAGES,
        eca_gamma: float = 2.0,
        eca_b: float = 1.0,
        init_std: float | None = 0.02,
        detach_reconstruction: bool = False,
        map_generator: AnomalyMapGenerator | None = None,
    ) -> None:
        super().__init__()
        if min(reconstruction_width, segmentation_width) < 1:
            msg = (
                "reconstruction_width and segmentation_width must be positive, got "
                f"{reconstruction_width} and {segmentation_width}."
            )
            raise ValueError(msg)
        if not set(eca_stages) <= set(ENCODER_STAGES):
            msg = f"eca_stages must be some of {ENCODER_STAGES} or empty, got {tuple(eca_stages)}."
            raise ValueError(msg)
        if eca_gamma <= 0:
            msg = f"eca_gamma must be positive, got {eca_gamma}."
            raise ValueError(msg)
        if init_std is not None and init_std < 0:
            msg = f"init_std must not be negative (None keeps PyTorch's initialisation), got {init_std}."
            raise ValueError(msg)
        blocks = EncoderReconstructive(in_channels=3, base_width=reconstruction_width)
        self.encoder = nn.Sequential(
            *(
                EncoderStage(
                    getattr(blocks, f"block{stage}"),
                    EcaModule(channels=width * reconstruction_width, gamma=eca_gamma, beta=eca_b)
                    if stage in eca_stages
                    else None,
                    pool=stage < ENCODER_STAGES[-1],
                )
                for stage, width in zip(ENCODER_STAGES, STAGE_WIDTHS, strict=True)
            )
        )
        self.decoder = DecoderReconstructive(base_width=reconstruction_width, out_channels=3)
        self.segmentation = DiscriminativeSubNetwork(in_channels=6, out_channels=2, base_width=segmentation_width)
        if init_std is not None:
            initialize(self, init_std)
        self.detach_reconstruction = detach_reconstruction
        self.map_generator = map_generator or AnomalyMapGenerator()
        choose_memory_layout(self, reconstruction_width)

    def reconstruct_images(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, 3, H, W) in [0, 1]; the result may slightly exceed that range."""
        return self.decoder(self.encoder(images))

    def forward(self, images: Tensor) -> FEAROutput | InferenceBatch:
        """Reconstruct and segment (training mode) or predict (evaluation mode) for images (B, 3, H, W) in [0, 1].

        Returns:
            ``FEAROutput`` in training mode, else ``InferenceBatch`` with scores (B,) and maps (B, 1, H, W) in [0, 1].

        Raises:
            ValueError: If the images do not have three channels, or height or width is not divisible by 32.
        """
        check_input_size(images, self.size_divisor, "FEAR")
        reconstruction = self.reconstruct_images(images)
        compared = reconstruction.detach() if self.detach_reconstruction else reconstruction
        logits = self.segmentation(torch.cat([images, compared], dim=1))
        if self.training:
            return FEAROutput(reconstruction, logits)
        with full_precision(images.device.type):
            score, anomaly_map = self.map_generator(logits.float(), images.float(), reconstruction.float())
        return InferenceBatch(pred_score=score, anomaly_map=anomaly_map)


def initialize(network: nn.Module, std: float) -> None:
    """Initialise convolutions from N(0, std) and batch normalisation from N(1, std), as DRAEM's code does."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
            nn.init.zeros_(layer.bias)
