"""The base of our anomalib modules, which take images in [0, 1] and do everything else themselves."""

from collections.abc import Sequence
from typing import Any, ClassVar

from anomalib import LearningType
from anomalib.data import Batch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torchvision.transforms.v2 import Resize

from anomalib_plus.data.mask_pairs import check_links, check_mask_pairs
from anomalib_plus.data.stage_data import datamodule_of_stage
from anomalib_plus.deployment.exporting import ExportMixin
from anomalib_plus.layers.loss_terms import LossTerms
from anomalib_plus.training.augmentation import AugmenterMixin, PrepareAugmenter
from anomalib_plus.training.checked_checkpoint import CheckedCheckpointMixin
from anomalib_plus.training.checkpoint_files import SafeCheckpoints
from anomalib_plus.training.finite_loss import FiniteLoss, check_weights
from anomalib_plus.training.fit_check import FitCheck
from anomalib_plus.training.input_check import ImageFileCheck, ValueRangeCheck
from anomalib_plus.training.last_epoch import LastEpochCheckpoint
from anomalib_plus.training.random_states import RandomStatesInCheckpoint
from anomalib_plus.training.threshold_check import ThresholdCheck


class BaseModule(AugmenterMixin, CheckedCheckpointMixin, ExportMixin):
    """Pre-processing to [0, 1], callbacks, steps and logging of a model.

    Use it as ``class Model(BaseModule, AnomalibModule)``: anomalib lists direct subclasses of its module only.
    """

    default_image_size: ClassVar[tuple[int, int]] = (256, 256)
    early_stopping_effect: ClassVar[str] = ""
    """What an early stop does to the method; for a warning."""
    epochs_of_trainer: int = 0
    """Epochs of the trainer so far, in which this model was trained."""
    model: nn.Module
    loss_terms: LossTerms
    """Of the last training batch."""

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Return a resize only: synthetic anomalies, losses and maps live in [0, 1], so there is no normalisation."""
        return PreProcessor(transform=Resize(image_size or cls.default_image_size, antialias=True))

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return our callbacks and anomalib's components; the check of the image files comes before any other work."""
        checks = [ImageFileCheck(), FitCheck(), ThresholdCheck(), FiniteLoss()]
        states = [SafeCheckpoints(), RandomStatesInCheckpoint(), LastEpochCheckpoint(), PrepareAugmenter()]
        # The range of values is that which the pre-processor gives, so its check comes last.
        return [*checks, *states, *super().configure_callbacks(), ValueRangeCheck()]  # type: ignore[misc]

    def prepare_data(self) -> None:
        """Name missing masks and broken links, on which anomalib's datamodules fail without naming them."""
        datamodule = datamodule_of_stage(self.trainer)  # type: ignore[attr-defined]
        check_links(datamodule)
        check_mask_pairs(datamodule)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No gradient clipping, no sanity check; the number of epochs is the user's."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Training on normal images only."""
        return LearningType.ONE_CLASS

    def log_loss(self, loss: LossTerms, batch_size: int) -> Tensor:
        """Log the loss of a training batch and its terms as epoch means; return the total, to be minimised."""
        self.loss_terms = LossTerms(loss.total.detach(), {name: term.detach() for name, term in loss.terms.items()})
        terms = {f"train_loss_{name}": term for name, term in self.loss_terms.terms.items()}
        options = {"on_step": False, "on_epoch": True, "batch_size": batch_size}
        self.log("train_loss", self.loss_terms.total, prog_bar=True, **options)  # type: ignore[attr-defined]
        self.log_dict(terms, **options)  # type: ignore[attr-defined]
        return loss.total

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Predict for the batch, as in testing."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite, so that they cannot replace an earlier checkpoint."""
        check_weights(self.model, type(self).__name__)
        super().on_save_checkpoint(checkpoint)
