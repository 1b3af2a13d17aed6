"""RAMFAE as an anomalib model."""

from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

from anomalib_plus.models.components.image_space import ImageSpaceMixin
from anomalib_plus.models.components.similarity import GMS_CONSTANT
from anomalib_plus.models.components.training_progress import cosine_factor, scheduled_adam
from anomalib_plus.models.ramfae.anomaly_map import AnomalyMapGenerator, ChannelReduction, ImageScore, MapType
from anomalib_plus.models.ramfae.loss import GmsdForm, RamFAELoss
from anomalib_plus.models.ramfae.torch_model import RamFAEModel
from anomalib_plus.transforms import DeletePaste


class RamFAE(ImageSpaceMixin, AnomalibModule):
    """Autoencoder that repairs Delete-Paste damage and finds defects where it cannot reproduce the image.

    Z. Sun, J. Wang, Y. Li: RAMFAE: a novel unsupervised visual anomaly detection method based on autoencoder, 2023.
    The defaults are the paper's; where it is silent, the model's README gives the choice and its reason.

    Args:
        channels: Width of each encoder stage; each after the first halves the size, so four stages need sizes
            divisible by 8.
        in_channels: 3, or 1 to work on the mean of the channels (MNIST).
        mffe: Multi-scale focused bottleneck (Table 2).
        mffe_branch_channels: Width of its branches; None means that of the last stage.
        dilation_rates: Its dilation rates (Fig. 7).
        coordinate_attention: Whether it ends in coordinate attention.
        attention_reduction: Reduction ratio of the attention.
        decoder_residual: Identity skip in each decoder block (Fig. 8).
        delete_paste: Damage the training images (Table 2).
        delete_paste_area: Smallest and largest rectangle as a share of the image.
        delete_paste_aspect: Smallest and largest width / height of a rectangle.
        delete_paste_patches: Rectangles per image.
        delete_paste_overlap: Whether hole and patch may overlap.
        delete_paste_fill: Value of a deleted pixel in [0, 1].
        delete_paste_probability: Share of training images that are damaged.
        lambda_gmsd: Weight of the gradient similarity deviation (eq. 14).
        lambda_ssim: Weight of the structural similarity term.
        lambda_l2: Weight of the mean squared error.
        gmsd_loss: Variance (eq. 11) or standard deviation (eq. 10) of the gradient similarity.
        gms_constant: Stabiliser of the gradient similarity for values in [0, 1].
        channel_reduction: Compare every channel, or the mean of the channels.
        anomaly_map: Distance at test time (Table 3); it has no parameters and may be set on a trained model.
        image_score: Maximum or mean of the anomaly map.
        smoothing_kernel: Side of the Gaussian window in pixels, odd; 0 or None switches smoothing off.
        smoothing_sigma: Standard deviation of the Gaussian in pixels.
        learning_rate: Initial learning rate of Adam.
        min_learning_rate: Where the cosine schedule ends.
        pre_processor: Anomalib component; the default resizes to 256x256.
        post_processor: Anomalib component.
        evaluator: Anomalib component.
        visualizer: Anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    early_stopping_effect: ClassVar[str] = (
        "the learning rate falls along a cosine until the end of the trainer's limit, so a training that is stopped "
        "early ends at a high one. A shorter max_epochs ends at the lowest."
    )
    model: RamFAEModel
    loss: RamFAELoss
    augmenter: DeletePaste | None

    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        in_channels: int = 3,
        mffe: bool = True,
        mffe_branch_channels: int | None = None,
        dilation_rates: tuple[int, ...] = (5, 7, 9),
        coordinate_attention: bool = True,
        attention_reduction: int = 32,
        decoder_residual: bool = True,
        delete_paste: bool = True,
        delete_paste_area: tuple[float, float] = (0.02, 0.15),
        delete_paste_aspect: tuple[float, float] = (0.3, 3.3),
        delete_paste_patches: int = 1,
        delete_paste_overlap: bool = False,
        delete_paste_fill: float = 0.0,
        delete_paste_probability: float = 1.0,
        lambda_gmsd: float = 1.0,
        lambda_ssim: float = 1.0,
        lambda_l2: float = 1.0,
        gmsd_loss: GmsdForm = "variance",
        gms_constant: float = GMS_CONSTANT,
        channel_reduction: ChannelReduction = "map_mean",
        anomaly_map: MapType = "msgms",
        image_score: ImageScore = "max",
        smoothing_kernel: int | None = 21,
        smoothing_sigma: float = 3.5,
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
        if not 0 < min_learning_rate <= learning_rate:
            msg = f"0 < min_learning_rate <= learning_rate must hold, got {min_learning_rate} and {learning_rate}."
            raise ValueError(msg)
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.model = RamFAEModel(
            in_channels=in_channels,
            channels=channels,
            mffe=mffe,
            mffe_branch_channels=mffe_branch_channels,
            dilation_rates=dilation_rates,
            coordinate_attention=coordinate_attention,
            attention_reduction=attention_reduction,
            decoder_residual=decoder_residual,
            map_generator=AnomalyMapGenerator(
                anomaly_map, image_score, smoothing_kernel, smoothing_sigma, gms_constant, channel_reduction
            ),
        )
        self.loss = RamFAELoss(lambda_gmsd, lambda_ssim, lambda_l2, gmsd_loss, gms_constant, channel_reduction)
        self.augmenter = (
            DeletePaste(
                delete_paste_area,
                delete_paste_aspect,
                delete_paste_patches,
                delete_paste_overlap,
                delete_paste_fill,
                delete_paste_probability,
            )
            if delete_paste
            else None
        )

    @property
    def anomaly_map(self) -> MapType:
        """Distance at test time: ``msgms``, ``ssim``, ``gmsd`` or ``mse``; assign to it to switch."""
        return self.model.map_generator.map_type

    @anomaly_map.setter
    def anomaly_map(self, map_type: MapType) -> None:
        self.model.map_generator.map_type = map_type
        self.hparams["anomaly_map"] = map_type

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Damage the images, repair them, compare with the undamaged ones."""
        del args, kwargs
        clean = batch.image
        damaged = clean if self.augmenter is None else self.augmenter(clean, self.anomaly_generator)[0]
        reconstruction = self.model(damaged).reconstruction
        loss = self.loss(self.model.select_channels(clean), reconstruction)
        return self.log_loss(loss, len(batch.image))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam; cosine from ``learning_rate`` to ``min_learning_rate``, once per epoch, over the trainer's budget."""
        factor = cosine_factor(self.trainer, self.min_learning_rate / self.learning_rate)
        return scheduled_adam(self.model.parameters(), self.learning_rate, factor)
