"""TSDN as an anomalib model."""

from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

from anomalib_plus.models.tsdn.anomaly_map import AnomalyMapGenerator, MapType
from anomalib_plus.models.tsdn.loss import FneReduction, TSDNLoss
from anomalib_plus.models.tsdn.torch_model import DEFAULT_BACKBONE, Gate, SkipMode, TSDNModel
from anomalib_plus.training.augmentation import plain_images
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.pretrained_checkpoint import SelfContainedCheckpointMixin
from anomalib_plus.training.schedules import COSINE_EFFECT, check_learning_rates, cosine_adam
from anomalib_plus.training.switchable_map import SwitchableMapMixin
from anomalib_plus.transforms import Augmenter, SuperpixelFilling


class TSDN(SwitchableMapMixin, BaseModule, SelfContainedCheckpointMixin, AnomalibModule):
    """Encoder with weighted channels, and a decoder that reconstructs the image without anomalies.

    Park, Lee, Cho, Kim, Lee: Two-stream decoder feature normality estimating network for industrial anomaly detection.
    The defaults are the paper's. The README of the model lists the choices that it leaves open. Image sizes must be
    divisible by the backbone's last stride, 32.

    The superpixels of all training images are computed once before the first epoch, or, if the images are augmented at
    random, for each image when it is loaded.

    Args:
        backbone: timm name of the encoder, with its weight tag.
        pre_trained: Load pre-trained weights for the encoder.
        weights: File of its weights (``.pth`` or ``.safetensors``), used instead of a download.
        freeze_encoder: Keep the encoder's weights and batch statistics fixed.
        bottleneck_width: Channels of the bottleneck.
        decoder_widths: Channels of each decoder block, one for each time that the encoder halves the size.
        use_mask_decoder: Predict the mask of the anomaly by a second decoder; False trains faster, at the price of
            Table 4.
        gate: Multiply the bottleneck by weights of its channels from the normality estimator ("fne"), by the complement
            of the predicted mask ("mask"), or by nothing ("none"), to see what it is worth (Table 4).
        skip_mode: Decoders with skip connections: "both", "anomaly" (that of the mask) or "none" (Table 3); "masked" is
            both, with those of the image decoder multiplied by the complement of the predicted mask (not in the paper):
            equal or better on our three data sets.
        fne_width: Channels of the normality estimator's convolution.
        fne_hidden_widths: Widths of its hidden layers.
        fne_size: Side of the map that it flattens; that of the bottleneck is image size / 32.
        augmenter: Synthetic defects of the training images, from `anomalib_plus.transforms`; True for superpixel
            random filling, False for none: then nothing teaches it to remove defects (Table 4).
        ssim_size: Side at which channels are compared with the mask; None for a quarter of the image, 88 of 352 pixels.
        fne_reduction: Sum or mean over the channels in the estimator's loss.
        gms_scales: Number of scales of the gradient similarity.
        l2_weight: Weight of the squared error of the reconstruction.
        ssim_weight: Weight of the structural similarity term.
        gms_weight: Weight of the gradient similarity term.
        mask_weight: Weight of the squared error of the mask.
        fne_weight: Weight of the estimator's loss.
        anomaly_map: Distance at test time: that of the colours ("color", the paper's), "msgms" of image and
            reconstruction, the predicted "mask", or the mean of the last two ("msgms+mask"); it may be set on a trained
            model.
        sigma: Standard deviation in pixels of the blur of the anomaly map; None for 4 at 352 pixels, scaled; 0 switches
            it off.
        learning_rate: Initial learning rate of Adam.
        min_learning_rate: Final learning rate of a cosine schedule; None for a constant one (the paper's).
        pre_processor: anomalib component; the default resizes to 352x352.
        post_processor: anomalib component.
        evaluator: anomalib component.
        visualizer: anomalib component.

    Raises:
        ValueError: If an argument is out of range or two of them contradict each other; the message names them.
        FileNotFoundError: If ``weights`` does not exist.
        RuntimeError: If pre-trained weights are neither cached nor can be downloaded.
    """

    default_image_size: ClassVar[tuple[int, int]] = (352, 352)
    pretrained_backbones: ClassVar[tuple[str, ...]] = (DEFAULT_BACKBONE,)
    renamed_arguments: ClassVar[dict[str, Any]] = {
        "reduced_channels": "bottleneck_width",
        "decoder_channels": "decoder_widths",
        "fne_channels": "fne_width",
        "fne_hidden": "fne_hidden_widths",
        "use_surf": "augmenter",
        "n_segments": "augmenter.n_segments",
        "n_filled": "augmenter.n_filled",
        "surf_probability": "augmenter.probability",
        "surf_cache_bytes": "augmenter.max_cache_bytes",
        "surf_cache_folder": "augmenter.cache_folder",
        "lambda_l2": "l2_weight",
        "lambda_ssim": "ssim_weight",
        "lambda_gms": "gms_weight",
        "lambda_mask": "mask_weight",
        "lambda_fne": "fne_weight",
    }
    model: TSDNModel
    loss: TSDNLoss

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        pre_trained: bool = True,
        weights: str | Path | None = None,
        freeze_encoder: bool = False,
        bottleneck_width: int = 256,
        decoder_widths: tuple[int, ...] = (256, 128, 64, 32, 16),
        use_mask_decoder: bool = True,
        gate: Gate = "fne",
        skip_mode: SkipMode = "both",
        fne_width: int = 32,
        fne_hidden_widths: tuple[int, ...] = (512, 256),
        fne_size: int = 11,
        augmenter: Augmenter | dict[str, Any] | bool = True,
        ssim_size: int | None = None,
        fne_reduction: FneReduction = "sum",
        gms_scales: int = 1,
        l2_weight: float = 1.0,
        ssim_weight: float = 0.5,
        gms_weight: float = 1.0,
        mask_weight: float = 1.0,
        fne_weight: float = 5e-5,
        anomaly_map: MapType = "color",
        sigma: float | None = None,
        learning_rate: float = 7e-5,
        min_learning_rate: float | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        check_learning_rates(learning_rate, min_learning_rate)
        self.set_augmenter(augmenter)
        if use_mask_decoder and not self.makes_anomalies:
            msg = (
                "The mask decoder learns from synthetic defects: without any (augmenter=False, or a probability or "
                "opacity of 0), set use_mask_decoder=False, gate='none', and skip_mode to 'both' or 'none'."
            )
            raise ValueError(msg)
        if use_mask_decoder and mask_weight == 0:
            msg = "mask_weight=0 leaves the mask decoder untrained: set a positive weight or use_mask_decoder=False."
            raise ValueError(msg)
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        if min_learning_rate is not None:
            self.early_stopping_effect = COSINE_EFFECT
        self.loss = TSDNLoss(
            l2_weight, ssim_weight, gms_weight, mask_weight, fne_weight, gms_scales, ssim_size, fne_reduction
        )
        self.model = TSDNModel(
            backbone=backbone,
            pre_trained=pre_trained,
            weights=weights,
            freeze_encoder=freeze_encoder,
            bottleneck_width=bottleneck_width,
            decoder_widths=decoder_widths,
            use_mask_decoder=use_mask_decoder,
            gate=gate,
            skip_mode=skip_mode,
            fne_width=fne_width,
            fne_hidden_widths=fne_hidden_widths,
            fne_size=fne_size,
            map_generator=AnomalyMapGenerator(sigma, anomaly_map, use_mask_decoder),
        )

    @classmethod
    def configure_augmenter(cls, **arguments: Any) -> SuperpixelFilling:
        """Return superpixel random filling (section 3); ``arguments`` override its defaults."""
        return SuperpixelFilling(**arguments)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Fill superpixels, reconstruct the images without them, compare with the clean images."""
        del args, kwargs
        target, image, mask = plain_images(batch), plain_images(batch), None
        if self.augmenter is not None:
            target, image, mask = self.corrupt(batch)
        return self.log_loss(self.loss(self.model(image), target, mask), len(target))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam with a constant or decreasing learning rate."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return cosine_adam(self, trained, self.learning_rate, self.min_learning_rate)
