"""TSDN as an anomalib model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor

from anomalib_plus.data.stage_data import datamodule_of_stage
from anomalib_plus.models.components.image_space import ImageSpaceMixin, check_value_range
from anomalib_plus.models.components.pretrained_checkpoint import SelfContainedCheckpointMixin
from anomalib_plus.models.components.repeatable import is_repeatable
from anomalib_plus.models.tsdn.anomaly_map import AnomalyMapGenerator
from anomalib_plus.models.tsdn.loss import FneReduction, TSDNLoss
from anomalib_plus.models.tsdn.torch_model import DEFAULT_BACKBONE, Gate, SkipMode, TSDNModel
from anomalib_plus.transforms import SuperpixelFilling


class TSDN(ImageSpaceMixin, SelfContainedCheckpointMixin, AnomalibModule):
    """Encoder whose channels are weighted by how normal they are, before a decoder paints the image without anomalies.

    Park, Lee, Cho, Kim, Lee: Two-stream decoder feature normality estimating network for industrial anomaly detection.
    The defaults are the paper's; where it is silent, the model's README gives the choice and its reason. Image sizes
    must be divisible by the backbone's last stride, 32.

    Before the first epoch the superpixels of all training images are computed, once, unless they are augmented at
    random; then those of each new image are computed as it comes.

    Args:
        backbone: Encoder: a timm network that gives feature maps, with its weight tag.
        pre_trained: Whether the encoder starts from pre-trained weights.
        weights: File of its weights (``.pth`` or ``.safetensors``), used instead of a download.
        freeze_encoder: Leave the encoder as it is.
        reduced_channels: Channels of the bottleneck.
        decoder_channels: Channels after each block of a decoder; as many as the encoder halves the size.
        use_surf: Repaint superpixels of the training images (Table 4).
        use_mask_decoder: Learn to find them, by a decoder of its own (Table 4).
        gate: Weigh the bottleneck's channels by their normality ("fne"), its positions by the complement of the
            predicted mask ("mask"), or neither ("none") (Table 4).
        skip_mode: Decoders with skip connections: "both", "anomaly" (that of the mask) or "none" (Table 3); "masked" is
            both, those of the image multiplied by the complement of the predicted mask (not in the paper).
        fne_channels: Channels of the normality estimator's convolution.
        fne_hidden: Widths of its hidden layers.
        fne_size: Side of the map it flattens; the bottleneck's is image size / 32.
        n_segments: Superpixels per image.
        n_filled: Superpixels that are repainted.
        surf_probability: Share of the training images that are repainted.
        surf_cache_bytes: Memory for the superpixels of the training set (248 kB per 352x352 image).
        surf_cache_folder: Where they are kept between runs, by image path; empty it when the images change.
        ssim_size: Side at which channels are compared with the mask, a quarter of the image size; None for all of it.
        fne_reduction: Sum or mean over the channels in the estimator's loss.
        gms_scales: Scales of the gradient similarity.
        lambda_l2: Weight of the squared error of the reconstruction.
        lambda_ssim: Weight of the structural similarity term.
        lambda_gms: Weight of the gradient similarity term.
        lambda_mask: Weight of the squared error of the mask.
        lambda_fne: Weight of the estimator's loss.
        sigma: Standard deviation in pixels of the blur of the anomaly map; 0 or None switches it off.
        learning_rate: Learning rate of Adam.
        pre_processor: Anomalib component; the default resizes to 352x352.
        post_processor: Anomalib component.
        evaluator: Anomalib component.
        visualizer: Anomalib component.

    Raises:
        ValueError: If an argument is out of range or two of them contradict each other; the message names them.
        FileNotFoundError: If the file of the weights is missing.
        RuntimeError: If pre-trained weights are asked for and neither cache nor network gives them.
    """

    default_image_size: ClassVar[tuple[int, int]] = (352, 352)
    pretrained_backbones: ClassVar[tuple[str, ...]] = (DEFAULT_BACKBONE,)
    model: TSDNModel
    loss: TSDNLoss
    augmenter: SuperpixelFilling | None

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        pre_trained: bool = True,
        weights: str | Path | None = None,
        freeze_encoder: bool = False,
        reduced_channels: int = 256,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        use_surf: bool = True,
        use_mask_decoder: bool = True,
        gate: Gate = "fne",
        skip_mode: SkipMode = "both",
        fne_channels: int = 32,
        fne_hidden: tuple[int, ...] = (512, 256),
        fne_size: int = 11,
        n_segments: int = 400,
        n_filled: int = 50,
        surf_probability: float = 1.0,
        surf_cache_bytes: int = 2**30,
        surf_cache_folder: str | Path | None = None,
        ssim_size: int | None = 88,
        fne_reduction: FneReduction = "sum",
        gms_scales: int = 1,
        lambda_l2: float = 1.0,
        lambda_ssim: float = 0.5,
        lambda_gms: float = 1.0,
        lambda_mask: float = 1.0,
        lambda_fne: float = 5e-5,
        sigma: float | None = 4.0,
        learning_rate: float = 7e-5,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        if not learning_rate > 0:
            msg = f"learning_rate must be positive, got {learning_rate}."
            raise ValueError(msg)
        if use_mask_decoder and (not use_surf or surf_probability == 0):
            msg = (
                "The decoder of the mask learns from repainted superpixels: use_surf=False or surf_probability=0 needs "
                "use_mask_decoder=False, and with it gate='none' and skip_mode 'both' or 'none'."
            )
            raise ValueError(msg)
        if use_mask_decoder and lambda_mask == 0:
            msg = "lambda_mask=0 leaves the decoder of the mask untrained: set use_mask_decoder=False or a weight."
            raise ValueError(msg)
        self.learning_rate = learning_rate
        self.loss = TSDNLoss(
            lambda_l2, lambda_ssim, lambda_gms, lambda_mask, lambda_fne, gms_scales, ssim_size, fne_reduction
        )
        self.augmenter = (
            SuperpixelFilling(n_segments, n_filled, surf_probability, surf_cache_bytes, surf_cache_folder)
            if use_surf
            else None
        )
        self.model = TSDNModel(
            backbone=backbone,
            pre_trained=pre_trained,
            weights=weights,
            freeze_encoder=freeze_encoder,
            reduced_channels=reduced_channels,
            decoder_channels=decoder_channels,
            use_mask_decoder=use_mask_decoder,
            gate=gate,
            skip_mode=skip_mode,
            fne_channels=fne_channels,
            fne_hidden=fne_hidden,
            fne_size=fne_size,
            map_generator=AnomalyMapGenerator(sigma),
        )
        self._images_repeat = False

    def on_fit_start(self) -> None:
        """Compute the superpixels of the training set, if every epoch shows the same images."""
        super().on_fit_start()
        transform = self.pre_processor.transform if self.pre_processor else None
        dataset: Any = getattr(datamodule_of_stage(self.trainer), "train_data", None)
        # Without an anomalib dataset, nothing tells whether its images change between epochs.
        self._images_repeat = (
            hasattr(dataset, "augmentations") and is_repeatable(dataset.augmentations) and is_repeatable(transform)
        )
        if self.augmenter is None or not self._images_repeat:
            return

        def as_in_training(image: Tensor) -> Tensor:
            image = image if transform is None else transform(image)
            check_value_range(image, type(self).__name__)
            return image

        self.augmenter.preparation = f"{transform} {dataset.augmentations}"
        show_progress = self.trainer.progress_bar_callback is not None and self.trainer.is_global_zero
        self.augmenter.warm(dataset, transform=as_in_training, progress=show_progress)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Repaint superpixels, reconstruct the images without them, compare with the clean images."""
        del args, kwargs
        clean, repainted, mask = batch.image, batch.image, None
        if self.augmenter is not None:
            keys: Sequence[str] | None = batch.image_path if self._images_repeat else None
            repainted, mask = self.augmenter(clean, self.anomaly_generator, keys)
        return self.log_loss(self.loss(clean, self.model(repainted), mask), len(clean))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with a constant learning rate."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=self.learning_rate)
