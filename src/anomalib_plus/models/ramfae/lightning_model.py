"""RAMFAE as an anomalib model."""

from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

from anomalib_plus.layers.similarity import GMS_CONSTANT
from anomalib_plus.models.ramfae.anomaly_map import AnomalyMapGenerator, ChannelReduction, ImageScore, MapType
from anomalib_plus.models.ramfae.loss import GmsdForm, RamFAELoss
from anomalib_plus.models.ramfae.torch_model import RamFAEModel
from anomalib_plus.training.augmentation import plain_images
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.schedules import COSINE_EFFECT, check_learning_rates, cosine_adam
from anomalib_plus.training.switchable_map import SwitchableMapMixin
from anomalib_plus.transforms import Augmenter, DeletePaste


class RamFAE(SwitchableMapMixin, BaseModule, AnomalibModule):
    """Autoencoder that repairs Delete-Paste damage and finds defects where it cannot reproduce the image.

    Z. Sun, J. Wang, Y. Li: RAMFAE: a novel unsupervised visual anomaly detection method based on autoencoder, 2023.
    The defaults are the paper's. The README of the model lists the choices that it leaves open.

    Args:
        widths: Channels of each encoder stage; each stage after the first halves the size, so four stages need sizes
            divisible by 8.
        in_channels: 3, or 1 to work on the mean of the channels (MNIST); with 1, one-channel images are accepted too.
        mffe: Use the multi-scale focused bottleneck; False is smaller and faster (Table 2).
        mffe_branch_width: Channels of each branch of the bottleneck; None for those of the last stage.
        dilation_rates: Dilation rates of the bottleneck's branches (Fig. 7): how far it looks around a defect to repair
            it. Lower them for small images, raise them for large defects.
        coordinate_attention: End the bottleneck in coordinate attention.
        attention_reduction: Reduction ratio of the attention, which has at least 8 hidden channels.
        decoder_residual: Add an identity skip to each decoder block, which eases training; there is rarely a reason to
            change it (Fig. 8).
        augmenter: Synthetic anomalies of the training images, from `anomalib_plus.transforms`; True for Delete
            Paste, False for none: then the network may learn to copy defects (Table 2).
        gmsd_weight: Weight of the gradient similarity deviation in the loss (eq. 14), for sharp edges.
        ssim_weight: Weight of the structural similarity term.
        l2_weight: Weight of the mean squared error; raise it, to 30 for example, where colours matter.
        gmsd_loss: Variance or standard deviation of the gradient similarity (eq. 11 and 10); the paper prints both, so
            change it only to compare.
        gms_constant: Stabiliser of the gradient similarity for values in [0, 1].
        channel_reduction: Compare every channel ("map_mean"), or the mean of the channels ("gray").
        anomaly_map: Distance of image and reconstruction at test time (Table 3). It has no parameters: compare them on
            a trained model, where it may be set.
        image_score: Maximum or mean of the anomaly map.
        smoothing_kernel: Side of the Gaussian window in pixels, odd; None for 21 at 256 pixels, scaled; 0 switches
            smoothing off.
        sigma: Standard deviation of the Gaussian in pixels; None for 3.5 at 256 pixels, scaled; 0 switches it off.
        learning_rate: Initial learning rate of Adam.
        min_learning_rate: Final learning rate of the cosine schedule.
        pre_processor: anomalib component; the default resizes to 256x256.
        post_processor: anomalib component.
        evaluator: anomalib component.
        visualizer: anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    renamed_arguments: ClassVar[dict[str, Any]] = {
        "channels": "widths",
        "mffe_branch_channels": "mffe_branch_width",
        "delete_paste": "augmenter",
        "delete_paste_area": "augmenter.area_ratio",
        "delete_paste_aspect": "augmenter.aspect_ratio",
        "delete_paste_patches": "augmenter.num_patches",
        "delete_paste_overlap": "augmenter.allow_overlap",
        "delete_paste_fill": "augmenter.fill_value",
        "delete_paste_probability": "augmenter.probability",
        "lambda_gmsd": "gmsd_weight",
        "lambda_ssim": "ssim_weight",
        "lambda_l2": "l2_weight",
        "smoothing_sigma": "sigma",
    }
    early_stopping_effect = COSINE_EFFECT
    model: RamFAEModel
    loss: RamFAELoss

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        in_channels: int = 3,
        mffe: bool = True,
        mffe_branch_width: int | None = None,
        dilation_rates: tuple[int, ...] = (5, 7, 9),
        coordinate_attention: bool = True,
        attention_reduction: int = 32,
        decoder_residual: bool = True,
        augmenter: Augmenter | dict[str, Any] | bool = True,
        gmsd_weight: float = 1.0,
        ssim_weight: float = 1.0,
        l2_weight: float = 1.0,
        gmsd_loss: GmsdForm = "variance",
        gms_constant: float = GMS_CONSTANT,
        channel_reduction: ChannelReduction = "map_mean",
        anomaly_map: MapType = "msgms",
        image_score: ImageScore = "max",
        smoothing_kernel: int | None = None,
        sigma: float | None = None,
        learning_rate: float = 1e-4,
        min_learning_rate: float = 1e-6,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        check_learning_rates(learning_rate, min_learning_rate)
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.model = RamFAEModel(
            in_channels=in_channels,
            widths=widths,
            mffe=mffe,
            mffe_branch_width=mffe_branch_width,
            dilation_rates=dilation_rates,
            coordinate_attention=coordinate_attention,
            attention_reduction=attention_reduction,
            decoder_residual=decoder_residual,
            map_generator=AnomalyMapGenerator(
                anomaly_map, image_score, smoothing_kernel, sigma, gms_constant, channel_reduction
            ),
        )
        self.loss = RamFAELoss(gmsd_weight, ssim_weight, l2_weight, gmsd_loss, gms_constant, channel_reduction)
        self.set_augmenter(augmenter)

    @classmethod
    def configure_augmenter(cls, **arguments: Any) -> DeletePaste:
        """Return Delete Paste (section 3); ``arguments`` override its defaults."""
        return DeletePaste(**arguments)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Corrupt the images, reconstruct them, compare with the clean ones."""
        del args, kwargs
        target = image = plain_images(batch)
        if self.augmenter is not None:
            target, image, _ = self.corrupt(batch)
        loss = self.loss(self.model(image).reconstruction, self.model.select_channels(target))
        return self.log_loss(loss, len(batch.image))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam with a cosine schedule from ``learning_rate`` to ``min_learning_rate`` over the training."""
        return cosine_adam(self, self.model.parameters(), self.learning_rate, self.min_learning_rate)
