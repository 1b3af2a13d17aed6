"""RB-AE as an anomalib model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor

from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.layers.checks import check_value_range
from anomalib_plus.models.rbae.anomaly_map import Discriminator, MapType
from anomalib_plus.models.rbae.autoencoder import UpsamplingMode
from anomalib_plus.models.rbae.loss import RbAELoss
from anomalib_plus.models.rbae.perceptual import VGG, PerceptualDistance, load_vgg_or_warn, relu_indices
from anomalib_plus.models.rbae.phases import Phases, early_stopping_effect
from anomalib_plus.models.rbae.reference import (
    FIRST,
    MEDOID,
    as_batch,
    check_reference,
    choose_reference,
    read_reference,
    resize_to_multiple,
)
from anomalib_plus.models.rbae.torch_model import RbAEModel
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.schedules import check_learning_rates, cosine_adam
from anomalib_plus.training.switchable_map import SwitchableMapMixin
from anomalib_plus.transforms import Augmenter, PerlinAnomaly


class RbAE(SwitchableMapMixin, BaseModule, AnomalibModule):
    """Autoencoder for textures that repairs features with patches of a clean reference image.

    W. Luo, H. Yao, W. Yu, X. Wang: Reference-based autoencoder for surface defect detection. The defaults are the
    paper's. The README of the model lists the choices that it leaves open. Image sizes must be divisible by the product
    of the strides, 16.

    A fit has two phases: the first takes ``phase1_epochs / (phase1_epochs + phase2_epochs)`` of the trainer's limit
    (epochs, steps or time). During the first phase the anomaly map is the feature residual (MSFR). Under DDP use
    ``strategy=ddp_find_unused_parameters_true``, because each phase trains a part of the network only.

    Args:
        widths: Channels of the encoder's five layers.
        strides: Strides of these layers, 1 or 2 each; (2, 2, 2, 2, 2) needs a quarter of the operations.
        phase1_epochs: Length of the first phase relative to the second.
        phase2_epochs: Length of the second phase; 0 for the first phase only.
        reference: "first" training image in the order of the paths, "medoid" of up to 64 training images, or a file.
        use_rbam: Repair features with the reference (Table V, row B); False to compare.
        rbam_levels: Layers that are repaired, some of 3, 4 and 5.
        patch_sizes: Sides of the patches; the features are repaired once for each. None for 2 and 4 locations of a
            feature map at 256 pixels, scaled.
        attention_temperature: Divisor of the cosine similarities; smaller is sharper. 1 (eq. 4) to 0.05 were level.
        fusion_width: Hidden channels of the feature fusion.
        fusion_kernel: Side of its convolutions, odd, larger than the largest patch.
        upsampling: Enlargement of features in the decoder: "transposed" convolutions, or "bilinear" interpolation and
            3x3 convolutions, which leave no grid.
        use_pixel_discrimination: Train the encoder to react to defects (Table V, row C).
        discriminator: Comparison that gives the anomaly map: "msfdm", or "pixel", "msfr" or "ssim", which are not
            learned, for comparisons (Table V, rows D to F).
        fdm_width: Hidden channels of the MSFDM.
        anomaly_map: The map of the ``discriminator`` ("paper"), or the probability of the mean of the MSFDM's smoothed
            "logits"; it may be set on a trained model.
        sigma: Standard deviation of that smoothing in pixels; None for 4 at 256 pixels, scaled; 0 switches it off.
        map_weights: Weights of the MSFDM's three maps (eq. 11); without effect on the map "logits".
        score_pool: Side of the mean filter whose maximum is the image score, odd; 0 for the map's maximum.
        perceptual: Use a perceptual loss by VGG-16. If its weights are missing, the term is skipped with a warning.
        perceptual_layers: "first5" ReLU layers, "lpips", or names such as "relu3_1".
        vgg_weights: File with VGG-16's weights (torchvision's or timm's), instead of a download.
        reconstruction_weight: Weight of the reconstruction's squared error.
        perceptual_weight: Weight of the perceptual distance.
        discrimination_weight: Weight of the encoder's discrimination.
        repair_weight: Weight of the repair.
        segmentation_weight: Weight of the segmentation.
        focal_gamma: Focusing exponent of the segmentation.
        focal_alpha: Weight of its anomalous class; None weighs both classes by 1.
        augmenter: Synthetic defects of the training images, from `anomalib_plus.transforms`; True for the paper's,
            with procedural textures instead of ImageNet.
        learning_rate: Initial learning rate of Adam.
        min_learning_rate: Final learning rate of a cosine over both phases; None for a constant one (the paper's).
        weight_decay: Weight decay of Adam (L2).
        pre_processor: anomalib component; the default resizes to 256x256.
        post_processor: anomalib component.
        evaluator: anomalib component.
        visualizer: anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    pretrained_backbones: ClassVar[tuple[str, ...]] = (VGG,)
    renamed_arguments: ClassVar[dict[str, Any]] = {
        "fusion_channels": "fusion_width",
        "fdm_channels": "fdm_width",
        "perceptual_weights": "vgg_weights",
        "w_rec": "reconstruction_weight",
        "w_per": "perceptual_weight",
        "w_dis": "discrimination_weight",
        "w_rep": "repair_weight",
        "w_seg": "segmentation_weight",
        "texture_dir": "augmenter.textures",
        "anomaly_probability": "augmenter.probability",
        "blend": "augmenter.opacity",
    }
    model: RbAEModel
    loss: RbAELoss
    _perceptual: PerceptualDistance | None

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
        strides: tuple[int, ...] = (1, 2, 2, 2, 2),
        phase1_epochs: int = 400,
        phase2_epochs: int = 200,
        reference: str | Path = FIRST,
        use_rbam: bool = True,
        rbam_levels: tuple[int, ...] = (3, 4, 5),
        patch_sizes: tuple[int, ...] | None = None,
        attention_temperature: float = 1.0,
        fusion_width: int = 64,
        fusion_kernel: int = 5,
        upsampling: UpsamplingMode = "transposed",
        use_pixel_discrimination: bool = True,
        discriminator: Discriminator = "msfdm",
        fdm_width: int = 64,
        anomaly_map: MapType = "paper",
        sigma: float | None = None,
        map_weights: tuple[float, ...] = (0.2, 0.2, 0.6),
        score_pool: int = 0,
        perceptual: bool = True,
        perceptual_layers: str | tuple[str, ...] = "first5",
        vgg_weights: str | Path | None = None,
        reconstruction_weight: float = 100.0,
        perceptual_weight: float = 1.0,
        discrimination_weight: float = 1.0,
        repair_weight: float = 1.0,
        segmentation_weight: float = 1.0,
        focal_gamma: float = 2.0,
        focal_alpha: float | None = None,
        augmenter: Augmenter | dict[str, Any] | bool = True,
        learning_rate: float = 1e-4,
        min_learning_rate: float | None = None,
        weight_decay: float = 1e-5,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        check_learning_rates(learning_rate, min_learning_rate)
        if not weight_decay >= 0:
            msg = f"weight_decay must not be negative, got {weight_decay}."
            raise ValueError(msg)
        if phase1_epochs < 1 or phase2_epochs < 0:
            msg = f"phase1_epochs must be positive and phase2_epochs >= 0, got {phase1_epochs} and {phase2_epochs}."
            raise ValueError(msg)
        if discriminator == "msfdm" and segmentation_weight == 0:
            msg = "segmentation_weight=0 leaves the MSFDM untrained: set a positive weight or another discriminator."
            raise ValueError(msg)
        self.set_augmenter(augmenter)
        if not self.makes_anomalies:
            msg = "RbAE learns from synthetic defects: augmenter must not be False, nor its probability or opacity 0."
            raise ValueError(msg)
        relu_indices(perceptual_layers)
        self.phase1_share = phase1_epochs / (phase1_epochs + phase2_epochs)
        self.reference_choice = reference
        self.perceptual = perceptual
        self.perceptual_layers = perceptual_layers
        self.vgg_weights = vgg_weights
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.early_stopping_effect = early_stopping_effect(min_learning_rate is not None)
        self.weight_decay = weight_decay
        self.model = RbAEModel(
            widths=widths,
            strides=strides,
            use_rbam=use_rbam,
            rbam_levels=rbam_levels,
            patch_sizes=patch_sizes,
            attention_temperature=attention_temperature,
            fusion_width=fusion_width,
            fusion_kernel=fusion_kernel,
            upsampling=upsampling,
            use_pixel_discrimination=use_pixel_discrimination,
            discriminator=discriminator,
            fdm_width=fdm_width,
            anomaly_map=anomaly_map,
            sigma=sigma,
            map_weights=map_weights,
            score_pool=score_pool,
        )
        self.loss = RbAELoss(
            reconstruction_weight,
            perceptual_weight,
            discrimination_weight,
            repair_weight,
            segmentation_weight,
            focal_gamma,
            focal_alpha,
        )
        self._perceptual = None

    @classmethod
    def configure_augmenter(cls, **arguments: Any) -> PerlinAnomaly:
        """Return the paper's defects, opaque textures anywhere on every image; ``arguments`` override its values."""
        paper: dict[str, Any] = {"probability": 1.0, "opacity": 1.0, "roi": None, "operations": "anomalib"}
        paper |= {"rotate_image_probability": 0.0, "rotate_noise_probability": 1.0}
        return PerlinAnomaly(**(paper | arguments))

    @property
    def training_networks(self) -> tuple[str, ...]:
        """Names in timm of pre-trained networks that the training downloads and the model does not contain."""
        uses_vgg = self.perceptual and self.loss.weights["perceptual"] and self.vgg_weights is None
        return (VGG,) if uses_vgg else ()

    def __getstate__(self) -> dict[str, Any]:
        """Exclude VGG from pickles, exports and copies; the next fit loads it again."""
        return super().__getstate__() | {"_perceptual": None}

    def on_fit_start(self) -> None:
        """Load VGG and check the reference's file, so that a missing file stops the training at its start."""
        super().on_fit_start()
        if self.model.levels and self.reference_choice not in {FIRST, MEDOID}:
            read_reference(Path(self.reference_choice))
        if self.perceptual and self.loss.weights["perceptual"]:
            with isolate_rng():  # else a resumed training would draw other random numbers
                self._perceptual = load_vgg_or_warn(self.perceptual_layers, self.vgg_weights, self.device)

    def on_fit_end(self) -> None:
        """Free the memory of VGG."""
        super().on_fit_end()
        self._perceptual = None

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callback that starts the second phase, and those of all models."""
        return [Phases(), *super().configure_callbacks()]

    def training_step(self, batch: Batch, batch_idx: int, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Add defects; reconstruct and discriminate (phase 1), or repair and segment (phase 2)."""
        del args, kwargs
        synthetic = self.corrupt(batch)
        output = self.model(synthetic.image, synthetic.target)
        loss = self.loss(output, synthetic.target, synthetic.mask, self._perceptual)
        if batch_idx == 0 and self.model.phase == 2:
            for level, value in self.model.attention_sharpness(synthetic.image[:1]).items():
                self.log(f"attention_sharpness_{level}", value, on_step=False, on_epoch=True, batch_size=1)
        return self.log_loss(loss, len(batch.image))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam for all parameters; it skips those without gradients, which the phase does not train."""
        return cosine_adam(self, self.model.parameters(), self.learning_rate, self.min_learning_rate, self.weight_decay)

    def set_reference(self, image: Tensor) -> None:
        """Set another reference of a trained model: a clean image (3, H, W) or (1, H, W) in [0, 1], of any size.

        Raises:
            RuntimeError: If the model is in its first phase.
            ValueError: If the image has another shape or range.
        """
        check_reference(image)
        check_value_range(image, type(self).__name__)
        self.model.set_reference(self._prepare(image))

    def enter_phase_2(self) -> None:
        """Choose the reference, freeze the encoder, reset the optimizer's state."""
        chosen = None
        if self.model.levels:
            image = choose_reference(self.reference_choice, self.trainer.train_dataloader, self._describe)
            chosen = self._prepare(image)
        self.model.enter_phase_2(chosen)
        if chosen is not None:
            # Batch statistics differ between processes, so all take the reference's features of the first.
            reference = self.model.reference
            values = [reference.image, *(reference.features(level) for level in reference.levels)]
            image, *features = (self.trainer.strategy.broadcast(value.cpu()) for value in values)
            reference.fill(image, features)
        # Adam's moments of the first phase's loss do not fit the second.
        self.optimizers(use_pl_optimizer=False).state.clear()

    def _describe(self, image: Tensor) -> Tensor:
        """Compute the mean feature (C,) of the deepest repaired layer."""
        return self.model.encode_reference(self._prepare(image))[-1].mean(dim=(0, 2, 3))

    def _prepare(self, image: Tensor) -> Tensor:
        """Pre-process an image (C, H, W) like the others; (1, 3, H, W) on the model's device."""
        batch = pre_process(self.pre_processor, as_batch(image).to(self.device))
        return batch if self.pre_processor else resize_to_multiple(batch, self.model.size_divisor)
