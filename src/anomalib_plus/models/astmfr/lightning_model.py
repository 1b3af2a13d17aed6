"""AstMFR as an anomalib model."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor

from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.models.astmfr.anomaly_map import MapType, Residual
from anomalib_plus.models.astmfr.loss import AstMFRLoss
from anomalib_plus.models.astmfr.residual_pass import ResidualPass
from anomalib_plus.models.astmfr.teacher_cache import TeacherFeatureCache
from anomalib_plus.models.astmfr.torch_model import STUDENT, TEACHER, AstMFRModel
from anomalib_plus.post_processing import RegionPostProcessor
from anomalib_plus.training.augmentation import plain_images
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.pretrained_checkpoint import SelfContainedCheckpointMixin
from anomalib_plus.training.repeatable import is_repeatable
from anomalib_plus.training.schedules import COSINE_EFFECT, check_learning_rates, cosine_adam
from anomalib_plus.training.switchable_map import SwitchableMapMixin


class AstMFR(SwitchableMapMixin, BaseModule, SelfContainedCheckpointMixin, AnomalibModule):
    """Student and teacher of different architectures; the student regenerates the teacher's features from masked ones.

    Gu, Li, Liu: Masked feature regeneration based asymmetric student-teacher network for anomaly detection, Multimedia
    Tools and Applications, 2024. The defaults are the paper's. The README of the model lists the choices that it leaves
    open. Any two convolutional timm networks work. Image sizes must be divisible by their largest stride (16).

    ``load_from_checkpoint`` sets ``pre_trained=False``, because the checkpoint contains both networks. On the command
    line, add ``--model.pre_trained false`` if a checkpoint is given.

    Args:
        teacher: timm name of the frozen network, with its weight tag.
        student: timm name of the trained network.
        layers: Stages of the teacher, one per level, by timm's name or index; None for those of strides 4, 8 and 16.
        student_layers: Stages of the student; None for those with the teacher's names or, if it has none, strides.
        pre_trained: Load ImageNet weights; if False, both networks are random.
        teacher_weights: State dict file of the teacher, used instead of a download.
        student_weights: State dict file of the student.
        student_pretrained: False trains the student from scratch (Tables 4 and 7): on the tiles of our
            benchmark it localises a little better and scores a little worse.
        regenerate: Levels with a regeneration block and masks, as one bool per level or for all; False was worse on the
            tiles (Table 8). Other levels compare the student's map directly, after a 1x1 convolution if the
            channels differ.
        mask_rate: Fraction of the locations that training masks. It is rarely worth changing: 0.3 to
            0.7 were level on the tiles (Fig. 6).
        l2_weight: The paper's alpha, which scales the loss and has no other effect.
        anomaly_map: Mean ("sum", the paper's) or geometric mean ("product", STFPM's) of the levels' distances; it may
            be set on a trained model.
        residual: Distance of student and teacher: "paper", or "whitened", the Mahalanobis distance of the difference of
            their unit vectors from that of the training images, whose mean and covariance a pass over the training
            images estimates before each validation.
        sigma: Standard deviation in pixels of the Gaussian that smooths the map; None for 4 at 256 pixels, scaled; 0
            disables it.
        pool_size: Side of the average pooling after it, odd; None for 5 at 256 pixels, scaled; 0 or 1 disables it.
        foreground: Background removal by :class:`~anomalib_plus.post_processing.RegionPostProcessor`, for parts before
            a background that causes false alarms (Table 9): "otsu", or a folder of masks named like the images; None
            for none, as for textures.
        teacher_cache_gib: Size in GiB of a cache in CPU memory for the teacher's features of the training images (3.7
            MB per image at the paper's size); 0 for none. Not possible with augmentations.
        learning_rate: Initial learning rate of Adam.
        min_learning_rate: Final learning rate of a cosine schedule; None for a constant one (the paper's).
        pre_processor: anomalib component; the default resizes to 256x256.
        post_processor: anomalib component.
        evaluator: anomalib component.
        visualizer: anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        FileNotFoundError: If a weight file does not exist.
        RuntimeError: If pre-trained weights are neither cached nor can be downloaded.
    """

    pretrained_backbones: ClassVar[tuple[str, ...]] = (TEACHER, STUDENT)
    checkpoint_overrides: ClassVar[dict[str, Any]] = {
        "pre_trained": False,
        "teacher_weights": None,
        "student_weights": None,
    }
    model: AstMFRModel
    loss: AstMFRLoss

    def __init__(
        self,
        teacher: str = TEACHER,
        student: str = STUDENT,
        layers: tuple[str | int, ...] | None = None,
        student_layers: tuple[str | int, ...] | None = None,
        pre_trained: bool = True,
        teacher_weights: str | Path | None = None,
        student_weights: str | Path | None = None,
        student_pretrained: bool = True,
        regenerate: bool | tuple[bool, ...] = True,
        mask_rate: float = 0.5,
        l2_weight: float = 1.0,
        anomaly_map: MapType = "sum",
        residual: Residual = "paper",
        sigma: float | None = None,
        pool_size: int | None = None,
        foreground: str | Path | None = None,
        teacher_cache_gib: float = 0.0,
        learning_rate: float = 1e-3,
        min_learning_rate: float | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        if foreground is not None:
            post_processor = RegionPostProcessor.around(post_processor, foreground)
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        check_learning_rates(learning_rate, min_learning_rate)
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        if min_learning_rate is not None:
            self.early_stopping_effect = COSINE_EFFECT
        self.model = AstMFRModel(
            teacher=teacher,
            student=student,
            layers=layers,
            student_layers=student_layers,
            pre_trained=pre_trained,
            teacher_weights=teacher_weights,
            student_weights=student_weights,
            student_pretrained=student_pretrained,
            regenerate=regenerate,
            mask_rate=mask_rate,
            anomaly_map=anomaly_map,
            residual=residual,
            sigma=sigma,
            pool_size=pool_size,
        )
        self.loss = AstMFRLoss(l2_weight)
        self.teacher_cache = TeacherFeatureCache(teacher_cache_gib)

    def on_train_start(self) -> None:
        """Clear the teacher's cache, and check that every epoch shows the same images if it is used.

        Raises:
            ValueError: If a transform of dataset or pre-processor is not known to be deterministic.
        """
        self.teacher_cache.clear()
        augmentations = getattr(getattr(self.trainer.train_dataloader, "dataset", None), "augmentations", None)
        transforms = (augmentations, getattr(self.pre_processor, "transform", None))
        if self.teacher_cache.capacity and not all(map(is_repeatable, transforms)):
            msg = (
                f"teacher_cache_gib needs the same images in every epoch, but {transforms} may augment them at random. "
                "Set teacher_cache_gib=0, or train without augmentations."
            )
            raise ValueError(msg)

    def on_train_end(self) -> None:
        """Free the memory of the teacher's cache."""
        self.teacher_cache.clear()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Compare the student's features, regenerated from masked ones, with the teacher's."""
        del args, kwargs
        output = self.model(plain_images(batch), self.anomaly_generator, self._cached_teacher_features(batch))
        return self.log_loss(self.loss(output.student, output.teacher), len(batch.image))

    def _cached_teacher_features(self, batch: Batch) -> list[Tensor] | None:
        if not self.teacher_cache.capacity or batch.image_path is None:
            return None
        return self.teacher_cache.features(plain_images(batch), batch.image_path, self.model.teacher_features)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam for the student and the regeneration blocks, with a constant or decreasing learning rate."""
        return cosine_adam(self, self.model.trained_parameters, self.learning_rate, self.min_learning_rate)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the pass over the training images, if residuals are whitened, and the callbacks of all models."""
        own = [ResidualPass()] if self.model.whitening else []
        return [*own, *super().configure_callbacks()]

    def estimate_residuals(self, batches: Iterable[Tensor]) -> None:
        """Estimate mean and covariance of the residuals for ``residual="whitened"``; trainings do it by themselves.

        Args:
            batches: Good images (B, 3, H, W) in [0, 1], of any size.

        Raises:
            ValueError: If residuals are not whitened, or there is no image.
        """
        self.model.estimate_residuals(pre_process(self.pre_processor, images.to(self.device)) for images in batches)
