"""FEAR as an anomalib model."""

from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

from anomalib_plus.models.fear.anomaly_map import AnomalyMapGenerator, MapType
from anomalib_plus.models.fear.loss import FEARLoss
from anomalib_plus.models.fear.torch_model import FEARModel
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.schedules import multi_step_factor, scheduled_adam
from anomalib_plus.training.switchable_map import SwitchableMapMixin
from anomalib_plus.transforms import Augmenter, PerlinAnomaly


class FEAR(SwitchableMapMixin, BaseModule, AnomalibModule):
    """Autoencoder that removes synthetic defects from the object, and a U-Net that learns where they were.

    L. Zhao, Y. Chai, Q. Zhang, H. R. Karimi: Self-supervised anomaly detection based on foreground enhancement and
    autoencoder reconstruction, 2023. The defaults are the paper's. Where it leaves a choice open, they follow DRAEM's
    code; the README of the model lists the choices. Image sizes must be divisible by 32.

    Args:
        reconstruction_width: Channels of the autoencoder's first stage.
        segmentation_width: Channels of the U-Net's first stage.
        eca_stages: Encoder stages, 1 to 5, that end in efficient channel attention; empty for none, to see what it is
            worth on your data (Table 4).
        eca_gamma: Divisor in the formula of the attention's kernel size.
        eca_b: Offset in that formula.
        init_std: Standard deviation of the initial weights of convolutions and batch normalisation; None keeps
            PyTorch's initialisation.
        augmenter: Synthetic defects of the training images, from `anomalib_plus.transforms`; True for the paper's,
            with procedural textures.
        ssim_weight: Weight of the structural similarity in the loss; raise it if reconstructions are blurred (eq. 6).
        focal_gamma: Focusing exponent of the segmentation loss.
        focal_alpha: Weight of its anomalous class; None weighs both by 1.
        detach_reconstruction: Keep the gradient of the U-Net's loss out of the autoencoder; by default both train
            jointly on the sum of the losses (eq. 7); change it to compare.
        smoothing_kernel: Side of the mean filter whose maximum is the image score, odd; None for 21 at 256 pixels,
            scaled; 0 switches it off.
        anomaly_map: The probability itself ("raw"), filtered ("smoothed"), the filtered "msgms" of image and
            reconstruction, or the mean of both ("smoothed+msgms"); it may be set on a trained model.
        learning_rate: Initial learning rate of Adam.
        lr_milestones: Fractions of the training after which the learning rate drops.
        lr_gamma: Factor of each drop.
        pre_processor: anomalib component; the default resizes to 256x256.
        post_processor: anomalib component.
        evaluator: anomalib component.
        visualizer: anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    renamed_arguments: ClassVar[dict[str, Any]] = {
        "smooth_anomaly_map": ("anomaly_map", {False: "raw", True: "smoothed"}),
        "texture_dir": "augmenter.textures",
        "anomaly_probability": "augmenter.probability",
        "beta": "augmenter.opacity",
        "perlin_threshold": "augmenter.threshold",
        "perlin_log2_scales": "augmenter.perlin_log2_scales",
        "foreground": ("augmenter.roi", {True: "foreground", False: None}),
        "foreground_polarity": "augmenter.foreground_polarity",
        "blend_inverse": "augmenter.blend_inverse",
        "rotate_image_probability": "augmenter.rotate_image_probability",
        "rotate_noise_probability": "augmenter.rotate_noise_probability",
        "rotation_degrees": "augmenter.rotation_degrees",
        "num_augmentations": "augmenter.num_augmentations",
        "max_tries": "augmenter.max_tries",
    }
    early_stopping_effect = (
        "the learning rate drops at lr_milestones, which are fractions of the trainer's limit, so a training that "
        "stops early may end before them. With a lower max_epochs it reaches them."
    )
    model: FEARModel
    loss: FEARLoss

    def __init__(
        self,
        reconstruction_width: int = 128,
        segmentation_width: int = 64,
        eca_stages: tuple[int, ...] = (1, 2, 3, 4, 5),
        eca_gamma: float = 2.0,
        eca_b: float = 1.0,
        init_std: float | None = 0.02,
        augmenter: Augmenter | dict[str, Any] | bool = True,
        ssim_weight: float = 1.0,
        focal_gamma: float = 2.0,
        focal_alpha: float | None = None,
        detach_reconstruction: bool = False,
        smoothing_kernel: int | None = None,
        anomaly_map: MapType = "raw",
        learning_rate: float = 1e-4,
        lr_milestones: tuple[float, ...] = (0.8, 0.9),
        lr_gamma: float = 0.2,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        if learning_rate <= 0 or lr_gamma <= 0:
            msg = f"learning_rate and lr_gamma must be positive, got {learning_rate} and {lr_gamma}."
            raise ValueError(msg)
        if not all(0 <= share <= 1 for share in lr_milestones):
            msg = f"lr_milestones must be fractions of the training in [0, 1], not epochs, got {tuple(lr_milestones)}."
            raise ValueError(msg)
        self.learning_rate = learning_rate
        self.lr_milestones = tuple(lr_milestones)
        self.lr_gamma = lr_gamma
        self.model = FEARModel(
            reconstruction_width=reconstruction_width,
            segmentation_width=segmentation_width,
            eca_stages=eca_stages,
            eca_gamma=eca_gamma,
            eca_b=eca_b,
            init_std=init_std,
            detach_reconstruction=detach_reconstruction,
            map_generator=AnomalyMapGenerator(smoothing_kernel, anomaly_map),
        )
        self.loss = FEARLoss(ssim_weight, focal_gamma, focal_alpha)
        self.set_augmenter(augmenter)
        if self.augmenter is None:
            msg = "FEAR learns from synthetic defects: augmenter must not be False. True gives the paper's."
            raise ValueError(msg)

    @classmethod
    def configure_augmenter(cls, **arguments: Any) -> PerlinAnomaly:
        """Return the paper's defects on the foreground (section 3); ``arguments`` override their defaults."""
        return PerlinAnomaly(**arguments)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Add defects, remove and segment them, compare with the clean images and the masks."""
        del args, kwargs
        synthetic = self.corrupt(batch)
        output = self.model(synthetic.image)
        loss = self.loss(output.reconstruction, output.logits, synthetic.target, synthetic.mask)
        return self.log_loss(loss, len(batch.image))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam whose learning rate is multiplied by ``lr_gamma`` at each of ``lr_milestones``."""
        factor = multi_step_factor(self.trainer, self.lr_milestones, self.lr_gamma)
        return scheduled_adam(self.model.parameters(), self.learning_rate, factor)
