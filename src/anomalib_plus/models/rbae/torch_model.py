"""RB-AE's network and its two training phases."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, NamedTuple, cast

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_plus.layers.checks import check_choice, check_input_size
from anomalib_plus.layers.memory_layout import choose_memory_layout
from anomalib_plus.models.rbae.anomaly_map import COMPARED_LAYERS, AnomalyMapGenerator, Discriminator, MapType
from anomalib_plus.models.rbae.autoencoder import NUM_LAYERS, Decoder, Encoder, MultiScaleDiscriminator, UpsamplingMode
from anomalib_plus.models.rbae.reference import ReferenceStore
from anomalib_plus.models.rbae.repair import FeatureRepair, paper_patch_sizes

Phase = Literal[1, 2]
DECODED_LEVELS = (3, 4, 5)
"""Layers whose features the decoder takes."""


class EncodingOutput(NamedTuple):
    """Output in training mode in phase 1: reconstructions of the clean images, and features of all layers.

    Without pixel discrimination the defective images are not encoded, and ``defective_features`` is empty.
    """

    reconstruction: Tensor
    clean_features: list[Tensor]
    defective_features: list[Tensor]


class RepairOutput(NamedTuple):
    """Output in training mode in phase 2: repaired features and their clean targets, logits of the compared layers.

    The features are empty without RBAM, the logits without MSFDM.
    """

    reconstruction: Tensor
    repaired_features: list[Tensor]
    clean_features: list[Tensor]
    logits: list[Tensor]


class Stages(NamedTuple):
    """Intermediate results of a prediction, for figures."""

    features: list[Tensor]
    """Features of the images, all five layers."""
    repaired: dict[int, Tensor]
    """Input of the decoder by layer: repaired features, or the features themselves."""
    reconstruction: Tensor
    logits: list[Tensor]
    """Logits (B, 1, H_i, W_i) by the MSFDM at the compared layers; empty if it is not used."""
    anomaly_map: Tensor


class RbAEModel(nn.Module):
    """RB-AE as a plain network: images in [0, 1] in, the input of the phase's loss or anomaly maps out.

    In phase 1 encoder and decoder are trained. In phase 2 decoder, repair and discrimination are trained; the encoder
    is frozen and stays in evaluation mode. Loading a ``state_dict`` restores phase and reference.

    Args: Those of :class:`~anomalib_plus.models.rbae.lightning_model.RbAE` of the same name.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    training_phase: Tensor

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        strides: Sequence[int] = (1, 2, 2, 2, 2),
        use_rbam: bool = True,
        rbam_levels: Sequence[int] = DECODED_LEVELS,
        patch_sizes: Sequence[int] | None = None,
        attention_temperature: float = 1.0,
        fusion_width: int = 64,
        fusion_kernel: int = 5,
        upsampling: UpsamplingMode = "transposed",
        use_pixel_discrimination: bool = True,
        discriminator: Discriminator = "msfdm",
        fdm_width: int = 64,
        anomaly_map: MapType = "paper",
        sigma: float | None = None,
        map_weights: Sequence[float] = (0.2, 0.2, 0.6),
        score_pool: int = 0,
    ) -> None:
        super().__init__()
        check_choice("upsampling", upsampling, UpsamplingMode)
        problems = {
            f"widths must be {NUM_LAYERS} positive numbers": len(widths) != NUM_LAYERS or min(widths) < 1,
            f"strides must be {NUM_LAYERS} of 1 and 2": len(strides) != NUM_LAYERS or not set(strides) <= {1, 2},
            f"rbam_levels must be some of {DECODED_LEVELS}, each once and ascending": (
                not rbam_levels or list(rbam_levels) != sorted(set(rbam_levels) & set(DECODED_LEVELS))
            ),
            "patch_sizes must be positive": patch_sizes is not None and (not patch_sizes or min(patch_sizes) < 1),
            "attention_temperature must be positive": not attention_temperature > 0,
            "fusion_kernel must be odd": fusion_kernel < 1 or fusion_kernel % 2 == 0,
            "fusion_width must be positive and fdm_width at least 2": fusion_width < 1 or fdm_width < 2,
        }
        messages = [message for message, is_wrong in problems.items() if is_wrong]
        if messages:
            msg = f"RbAE: {'; '.join(messages)}."
            raise ValueError(msg)
        self.size_divisor = prod(strides)
        self.map_generator = AnomalyMapGenerator(discriminator, anomaly_map, sigma, map_weights, score_pool)
        self.use_pixel_discrimination = use_pixel_discrimination
        self.encoder = Encoder(widths, strides)
        self.decoder = Decoder(widths, strides, upsampling)
        levels = tuple(rbam_levels) if use_rbam else ()
        sizes = {level: patch_sizes or paper_patch_sizes(prod(strides[:level])) for level in levels}
        options = attention_temperature, fusion_width, fusion_kernel
        self.repair = nn.ModuleDict(
            {str(level): FeatureRepair(widths[level - 1], sizes[level], *options) for level in levels}
        )
        self.reference = ReferenceStore({level: widths[level - 1] for level in levels})
        self.discrimination = (
            MultiScaleDiscriminator(widths[:COMPARED_LAYERS], fdm_width) if discriminator == "msfdm" else None
        )
        self.register_buffer("training_phase", torch.tensor(1))
        self._phase: Phase = 1
        choose_memory_layout(self, widths[0])

    @property
    def phase(self) -> Phase:
        """Phase of the training: 1 without, 2 with repair and discrimination."""
        return self._phase

    @property
    def levels(self) -> tuple[int, ...]:
        """Repaired layers; empty without RBAM."""
        return self.reference.levels

    def enter_phase_1(self) -> None:
        """Make the encoder trainable and forget the reference."""
        self.reference.clear()
        self._set_phase(1)

    def enter_phase_2(self, reference: Tensor | None = None) -> None:
        """Freeze the encoder, in evaluation mode, and encode the reference image (1, 3, H, W) in [0, 1].

        Raises:
            ValueError: If there is no reference but layers are repaired, or its size is not divisible.
        """
        if self.levels and reference is None:
            msg = "Phase 2 with RBAM needs a reference image, got None: pass one, or build with use_rbam=False."
            raise ValueError(msg)
        if self.levels and reference is not None:
            check_input_size(reference, self.size_divisor, "RbAE", 2 * self.size_divisor)
        self._set_phase(2)
        if self.levels and reference is not None:
            self.set_reference(reference)

    def set_reference(self, image: Tensor) -> None:
        """Encode another reference image (1, 3, H, W) in [0, 1] with the frozen encoder.

        Raises:
            RuntimeError: In phase 1, where the encoder still changes.
            ValueError: If the size is not divisible, or no layer is repaired.
        """
        if self.phase == 1:
            msg = "RbAE takes a reference image in phase 2 only, because its encoder changes before: train it first."
            raise RuntimeError(msg)
        if not self.levels:
            msg = "RbAE without RBAM (use_rbam=False) does not use a reference image."
            raise ValueError(msg)
        check_input_size(image, self.size_divisor, "RbAE", 2 * self.size_divisor)
        self.reference.fill(image, self.encode_reference(image))

    @torch.no_grad()
    def encode_reference(self, image: Tensor) -> list[Tensor]:
        """Compute the features of the repaired layers of an image (1, 3, H, W), in evaluation mode."""
        training = self.encoder.training
        features = self.encoder.eval()(image)
        self.encoder.train(training)
        return [features[level - 1] for level in self.levels]

    def train(self, mode: bool = True) -> "RbAEModel":
        """Set the mode, but keep the frozen encoder of phase 2 in evaluation mode."""
        super().train(mode)
        if self.phase == 2:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor, clean: Tensor | None = None) -> EncodingOutput | RepairOutput | InferenceBatch:
        """Compute the input of the phase's loss (training mode) or predict (evaluation mode).

        Args:
            images: (B, 3, H, W) in [0, 1], with defects in training.
            clean: The same images without defects, for training; ``images`` if None.

        Returns:
            ``EncodingOutput`` or ``RepairOutput`` in training mode, else ``InferenceBatch`` with scores (B,) and maps
            (B, 1, H, W) in [0, 1]. In phase 1 the map is the feature residual (MSFR) without repair.

        Raises:
            ValueError: If height or width is not divisible by ``size_divisor``.
        """
        smallest = max(2 * self.size_divisor, self.map_generator.smallest_map)
        check_input_size(images, self.size_divisor, "RbAE", smallest)
        if not self.training:
            anomaly_map = self.inspect(images).anomaly_map
            return InferenceBatch(pred_score=self.map_generator.score(anomaly_map), anomaly_map=anomaly_map)
        clean = images if clean is None else clean
        return self._train_encoding(images, clean) if self.phase == 1 else self._train_repair(images, clean)

    def reconstruct_images(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, 3, H, W) in [0, 1] from repaired features."""
        return self._decode(self._repair(self.encoder(images)))

    def inspect(self, images: Tensor) -> Stages:
        """Predict like :meth:`forward` in evaluation mode and keep the intermediate results."""
        features = self.encoder(images)
        repaired = self._repair(features)
        reconstruction = self._decode(repaired)
        kind: Discriminator = "msfr" if self.phase == 1 else self.map_generator.discriminator
        compared: tuple[Sequence[Tensor], Sequence[Tensor]] = ((), ())
        logits: list[Tensor] = []
        if kind in {"msfdm", "msfr"}:
            compared = features[:COMPARED_LAYERS], self.encoder(reconstruction, COMPARED_LAYERS)
        if kind == "msfdm" and self.discrimination is not None:
            logits = self.discrimination(*compared)
        anomaly_map = self.map_generator(kind, images, reconstruction, compared, logits)
        return Stages(features, repaired, reconstruction, logits, anomaly_map)

    @torch.no_grad()
    def attention_sharpness(self, images: Tensor) -> dict[int, Tensor]:
        """Compute the sharpness of the attention by repaired layer, at the smallest patch size; in phase 2 only."""
        features = self.encoder(images)
        return {
            level: cast(FeatureRepair, self.repair[str(level)]).sharpness(
                features[level - 1], self.reference.features(level)
            )
            for level in self.levels
        }

    def _train_encoding(self, images: Tensor, clean: Tensor) -> EncodingOutput:
        if not self.use_pixel_discrimination:
            features = self.encoder(clean)
            return EncodingOutput(self._decode(dict(enumerate(features, 1))), features, [])
        # One batch, so that batch normalisation gives equal pixels equal features.
        both = self.encoder(torch.cat([clean, images]))
        halves = [features.chunk(2) for features in both]
        clean_features = [half[0] for half in halves]
        reconstruction = self._decode(dict(enumerate(clean_features, 1)))
        return EncodingOutput(reconstruction, clean_features, [half[1] for half in halves])

    def _train_repair(self, images: Tensor, clean: Tensor) -> RepairOutput:
        with torch.no_grad():
            features = self.encoder(images)
            targets = self.encoder(clean) if self.levels else []
        repaired = self._repair(features)
        reconstruction = self._decode(repaired)
        logits = []
        if self.discrimination is not None:
            # With gradients, so that the decoder learns from the segmentation through the frozen encoder.
            compared = self.encoder(reconstruction, COMPARED_LAYERS)
            logits = self.discrimination(features[:COMPARED_LAYERS], compared)
        return RepairOutput(
            reconstruction,
            [repaired[level] for level in self.levels],
            [targets[level - 1] for level in self.levels],
            logits,
        )

    def _repair(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        by_level = dict(enumerate(features, 1))
        if self.phase == 2:
            for level in self.levels:
                by_level[level] = self.repair[str(level)](by_level[level], self.reference.features(level))
        return by_level

    def _decode(self, features: dict[int, Tensor]) -> Tensor:
        return self.decoder(*(features[level] for level in DECODED_LEVELS))

    def _set_phase(self, phase: Phase) -> None:
        self._phase = phase
        self.training_phase.fill_(phase)
        self.encoder.requires_grad_(phase == 1)
        if phase == 2:
            for parameter in self.encoder.parameters():
                parameter.grad = None
        self.train(self.training)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if prefix + "training_phase" in state_dict:
            self._set_phase(2 if int(state_dict[prefix + "training_phase"]) == 2 else 1)
