"""FEAR as an anomalib model."""

from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

from anomalib_plus.models.components.image_space import ImageSpaceMixin
from anomalib_plus.models.components.training_progress import multi_step_factor, scheduled_adam
from anomalib_plus.models.fear.anomaly_map import AnomalyMapGenerator
from anomalib_plus.models.fear.loss import FEARLoss
from anomalib_plus.models.fear.torch_model import FEARModel
from anomalib_plus.transforms import PerlinAnomaly
from anomalib_plus.transforms.foreground import Polarity
from anomalib_plus.transforms.perlin_anomaly import BlendInverse


class FEAR(ImageSpaceMixin, AnomalibModule):
    """Autoencoder that removes synthetic defects from the object, and a U-Net that learns where they were.

    L. Zhao, Y. Chai, Q. Zhang, H. R. Karimi: Self-supervised anomaly detection based on foreground enhancement and
    autoencoder reconstruction, 2023. The defaults are the paper's; where it is silent, they follow DRAEM's code, and
    the model's README gives each choice and its reason. Image sizes must be divisible by 32.

    Args:
        reconstruction_width: Channels of the autoencoder's first stage.
        segmentation_width: Channels of the U-Net's first stage.
        eca_stages: Encoder stages, 1 to 5, that end in efficient channel attention; empty for none (Table 4).
        eca_gamma: Divisor in the attention's rule for its kernel size.
        eca_b: Offset in that rule.
        init_std: Standard deviation of the initial weights; None keeps PyTorch's initialisation.
        texture_dir: Folder of images to fill defects with, at most 1000 of which are used, chosen at random once; None
            for procedural textures.
        anomaly_probability: Share of the training images that get a defect.
        beta: Range of the texture's opacity, or one number.
        perlin_threshold: Noise above it is a defect.
        perlin_log2_scales: Cells of the noise per axis are 2 to a power in this range.
        foreground: Confine defects to the object (Table 4); switch it off for textures.
        foreground_polarity: Which side of Otsu's threshold is the object; "auto" asks the image border.
        blend_inverse: Where the clean image shows: outside the "mask", or outside the "perlin" noise, as eq. 2 is
            printed, which blackens unlabelled background.
        rotate_image_probability: Share of the training images that are rotated (0 for BTAD).
        rotate_noise_probability: Share of the noise maps that are rotated.
        rotation_degrees: Range of both rotations.
        num_augmentations: Distinct operations on each texture, of six.
        max_tries: Draws of the noise until it meets the object; then the image stays normal.
        ssim_weight: Weight of the structural similarity term (eq. 6).
        focal_gamma: Focusing exponent of the segmentation loss.
        focal_alpha: Weight of its anomalous class; None weighs both by 1.
        smoothing_kernel: Side of the mean filter whose maximum is the image score, odd; 0 or None switches it off.
        smooth_anomaly_map: Give the filtered map instead of the raw one.
        learning_rate: Initial learning rate of Adam.
        lr_milestones: Shares of the training after which the learning rate drops.
        lr_gamma: Factor of each drop.
        pre_processor: Anomalib component; the default resizes to 256x256.
        post_processor: Anomalib component.
        evaluator: Anomalib component.
        visualizer: Anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
    """

    early_stopping_effect: ClassVar[str] = (
        "the learning rate falls at lr_milestones, which are shares of the trainer's limit, so a training that is "
        "stopped early may end before them. A shorter max_epochs reaches them."
    )
    model: FEARModel
    loss: FEARLoss
    augmenter: PerlinAnomaly

    def __init__(
        self,
        reconstruction_width: int = 128,
        segmentation_width: int = 64,
        eca_stages: tuple[int, ...] = (1, 2, 3, 4, 5),
        eca_gamma: float = 2.0,
        eca_b: float = 1.0,
        init_std: float | None = 0.02,
        texture_dir: str | Path | None = None,
        anomaly_probability: float = 0.5,
        beta: float | tuple[float, float] = (0.1, 1.0),
        perlin_threshold: float = 0.5,
        perlin_log2_scales: tuple[int, int] = (0, 5),
        foreground: bool = True,
        foreground_polarity: Polarity = "auto",
        blend_inverse: BlendInverse = "mask",
        rotate_image_probability: float = 0.3,
        rotate_noise_probability: float = 0.3,
        rotation_degrees: tuple[float, float] = (-90.0, 90.0),
        num_augmentations: int = 3,
        max_tries: int = 10,
        ssim_weight: float = 1.0,
        focal_gamma: float = 2.0,
        focal_alpha: float | None = None,
        smoothing_kernel: int | None = 21,
        smooth_anomaly_map: bool = False,
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
            msg = f"lr_milestones are shares of the training in [0, 1], not epochs, got {tuple(lr_milestones)}."
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
            map_generator=AnomalyMapGenerator(smoothing_kernel, smooth_anomaly_map),
        )
        self.loss = FEARLoss(ssim_weight, focal_gamma, focal_alpha)
        self.augmenter = PerlinAnomaly(
            texture_dir,
            probability=anomaly_probability,
            beta=beta,
            threshold=perlin_threshold,
            perlin_log2_scales=perlin_log2_scales,
            foreground=foreground,
            foreground_polarity=foreground_polarity,
            blend_inverse=blend_inverse,
            rotate_image_probability=rotate_image_probability,
            rotate_noise_probability=rotate_noise_probability,
            rotation_degrees=rotation_degrees,
            num_augmentations=num_augmentations,
            max_tries=max_tries,
        )

    def on_fit_start(self) -> None:
        """Look for the textures, so that a missing folder stops the training now and not at its first defect."""
        super().on_fit_start()
        self.augmenter.textures.check()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Plant defects, remove and segment them, compare with the clean images and the masks."""
        del args, kwargs
        synthetic = self.augmenter.corrupt(batch.image, self.anomaly_generator)
        output = self.model(synthetic.image)
        loss = self.loss(synthetic.target, output.reconstruction, synthetic.mask, output.logits)
        return self.log_loss(loss, len(batch.image))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam; the learning rate drops by ``lr_gamma`` at each share of the trainer's budget, checked every epoch."""
        factor = multi_step_factor(self.trainer, self.lr_milestones, self.lr_gamma)
        return scheduled_adam(self.model.parameters(), self.learning_rate, factor)
