"""AstMFR as an anomalib model."""

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

from anomalib_plus.models.astmfr.anomaly_map import AnomalyMapGenerator
from anomalib_plus.models.astmfr.loss import AstMFRLoss
from anomalib_plus.models.astmfr.teacher_cache import TeacherFeatureCache
from anomalib_plus.models.astmfr.torch_model import STUDENT, TEACHER, AstMFRModel
from anomalib_plus.post_processing import ForegroundPostProcessor
from anomalib_plus.training.base_module import BaseModule
from anomalib_plus.training.pretrained_checkpoint import SelfContainedCheckpointMixin
from anomalib_plus.training.repeatable import is_repeatable


class AstMFR(BaseModule, SelfContainedCheckpointMixin, AnomalibModule):
    """Student of another architecture than its teacher, which regenerates the teacher's features from masked ones.

    Gu, Li, Liu: Masked feature regeneration based asymmetric student-teacher network for anomaly detection, Multimedia
    Tools and Applications, 2024. The defaults are the paper's; the model's README gives each choice and its reason. Any
    two convolutional timm networks work. Image sizes must be divisible by their largest stride (16).

    ``load_from_checkpoint`` sets ``pre_trained=False``: the checkpoint holds both networks, so nothing is downloaded.
    On the command line, add ``--model.pre_trained false`` where a checkpoint is given.

    Args:
        teacher: timm name of the frozen network, with its weight tag.
        student: timm name of the trained network.
        layers: Stages of the teacher by timm's name or position; None for those of strides 4, 8 and 16.
        student_layers: Stages of the student; None for those of the teacher's names or, failing that, strides.
        pre_trained: Load ImageNet weights; False leaves both networks random.
        teacher_weights: State dict file of the teacher, instead of a download.
        student_weights: State dict file of the student.
        student_pretrained: False trains the student from scratch (Tables 4 and 7).
        regenerate: Which levels have a regeneration block and masks (Table 8); one bool for all.
        mask_rate: Share of the positions that training hides (Fig. 6).
        l2_weight: The paper's alpha; it scales the loss and changes nothing else.
        sigma: Standard deviation of the Gaussian that smooths the map, in pixels; 0 switches it off.
        pool_size: Side of the average pooling after it, odd; 0 or 1 switches it off.
        foreground: Background removal (Table 9), by :class:`~anomalib_plus.post_processing.ForegroundPostProcessor`:
            "otsu", or a folder of masks by image name; None keeps the background.
        teacher_cache_gib: Host memory for the teacher's features of the training images, in GiB; 0 switches the cache
            off. For training without augmentations only: 3.7 MB per image at the paper's size.
        learning_rate: Learning rate of Adam.
        pre_processor: Anomalib component; the default resizes to 256x256.
        post_processor: Anomalib component.
        evaluator: Anomalib component.
        visualizer: Anomalib component.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        FileNotFoundError: If a file of weights is missing.
        RuntimeError: If weights are asked for and neither cache nor network gives them.
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
        sigma: float = 4.0,
        pool_size: int = 5,
        foreground: str | Path | None = None,
        teacher_cache_gib: float = 0.0,
        learning_rate: float = 1e-3,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        if foreground is not None:
            post_processor = ForegroundPostProcessor.around(post_processor, foreground)
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        if learning_rate <= 0:
            msg = f"learning_rate must be positive, got {learning_rate}."
            raise ValueError(msg)
        self.learning_rate = learning_rate
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
            map_generator=AnomalyMapGenerator(sigma, pool_size),
        )
        self.loss = AstMFRLoss(l2_weight)
        self.teacher_cache = TeacherFeatureCache(teacher_cache_gib)

    def on_train_start(self) -> None:
        """Refuse the teacher's cache where the same file does not give the same image twice.

        Raises:
            ValueError: If the transforms of data set or pre-processor are not known to be repeatable.
        """
        self.teacher_cache.clear()
        augmentations = getattr(getattr(self.trainer.train_dataloader, "dataset", None), "augmentations", None)
        transforms = (augmentations, getattr(self.pre_processor, "transform", None))
        if self.teacher_cache.capacity and not all(map(is_repeatable, transforms)):
            msg = (
                "teacher_cache_gib keeps one set of features per image file, but the training images are augmented. "
                "Set teacher_cache_gib=0, or train without augmentations."
            )
            raise ValueError(msg)

    def on_train_end(self) -> None:
        """Free the memory of the teacher's cache."""
        self.teacher_cache.clear()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Compare the student's features, regenerated from masked ones, with the teacher's."""
        del args, kwargs
        output = self.model(batch.image, self.anomaly_generator, self._cached_teacher_features(batch))
        return self.log_loss(self.loss(output.student, output.teacher), len(batch.image))

    def _cached_teacher_features(self, batch: Batch) -> list[Tensor] | None:
        if not self.teacher_cache.capacity or batch.image_path is None:
            return None
        return self.teacher_cache.features(batch.image, batch.image_path, self.model.teacher_features)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam over the student and the regeneration blocks, at a constant learning rate."""
        return torch.optim.Adam(self.model.trained_parameters, lr=self.learning_rate)
