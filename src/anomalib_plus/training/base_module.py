"""Base of the package's anomalib modules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import yaml
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
from anomalib_plus.training.augmentation import AugmenterMixin, PrepareAugmenter, plain_images
from anomalib_plus.training.checked_checkpoint import CheckedCheckpointMixin
from anomalib_plus.training.checkpoint_files import SafeCheckpoints
from anomalib_plus.training.finite_loss import FiniteLoss, check_weights
from anomalib_plus.training.fit_check import FitCheck
from anomalib_plus.training.input_check import ImageFileCheck, ValueRangeCheck
from anomalib_plus.training.kept_images import KeepImages
from anomalib_plus.training.last_epoch import LastEpochCheckpoint
from anomalib_plus.training.random_states import RandomStatesInCheckpoint
from anomalib_plus.training.threshold_check import ThresholdCheck

Model = TypeVar("Model", bound="BaseModule")


class BaseModule(AugmenterMixin, CheckedCheckpointMixin, ExportMixin):
    """Pre-processor, callbacks, steps and logging of a model, which takes images in [0, 1].

    Use it as ``class Model(BaseModule, AnomalibModule)``: anomalib lists direct subclasses of its module only.
    """

    default_image_size: ClassVar[tuple[int, int]] = (256, 256)
    early_stopping_effect: str = ""
    """Effect of early stopping on the method, for a warning."""
    epochs_of_trainer: int = 0
    """The trainer's number of epochs after the last one that trained this model; see :class:`FitCheck`."""
    model: nn.Module
    loss_terms: LossTerms
    """Detached loss of the last training batch."""

    @classmethod
    def from_config(cls: type[Model], config_path: str | Path | Mapping[str, Any], **kwargs: Any) -> Model:
        """Build the model of a configuration: a file for ``anomalib train``, or its content, such as a preset's.

        Only ``model`` counts; anomalib's method refuses files with data or a seed. ``kwargs`` replace arguments, e.g.
        ``**{"model.learning_rate": 1e-3}``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it has no ``model``, or another one than this class.
        """
        content: Any = config_path
        if not isinstance(config_path, Mapping):
            content = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
        if not isinstance(content, Mapping) or "model" not in content:
            msg = f"The configuration has no key 'model' with class_path and init_args, got {config_path!r}."
            raise ValueError(msg)
        with TemporaryDirectory() as folder:
            file = Path(folder, "model.yaml")
            file.write_text(yaml.safe_dump({"model": content["model"]}), encoding="utf-8")
            model = super().from_config(file, **kwargs)  # type: ignore[misc]
        if not isinstance(model, cls):
            msg = f"This is a configuration of {type(model).__name__}, not of {cls.__name__}: use the other class."
            raise ValueError(msg)
        return model

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Return a resize without normalisation: synthetic anomalies, losses and maps need images in [0, 1]."""
        return PreProcessor(transform=Resize(image_size or cls.default_image_size, antialias=True))

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the package's callbacks and anomalib's components, the check of the image files first."""
        checks = [ImageFileCheck(), FitCheck(), ThresholdCheck(), FiniteLoss()]
        states = [SafeCheckpoints(), RandomStatesInCheckpoint(), LastEpochCheckpoint(), PrepareAugmenter()]
        # Last, because it checks the pre-processor's output.
        return [*checks, *states, KeepImages(), *super().configure_callbacks(), ValueRangeCheck()]  # type: ignore[misc]

    def prepare_data(self) -> None:
        """Raise an error that names missing masks and broken links, before anomalib's datamodules fail on them."""
        datamodule = datamodule_of_stage(self.trainer)  # type: ignore[attr-defined]
        check_links(datamodule)
        check_mask_pairs(datamodule)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments of the trainer, without gradient clipping and sanity check."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """One-class: training on normal images only."""
        return LearningType.ONE_CLASS

    def log_loss(self, loss: LossTerms, batch_size: int) -> Tensor:
        """Log the loss of a training batch and its terms as epoch means; return the total to minimise."""
        self.loss_terms = LossTerms(loss.total.detach(), {name: term.detach() for name, term in loss.terms.items()})
        terms = {f"train_loss_{name}": term for name, term in self.loss_terms.terms.items()}
        options = {"on_step": False, "on_epoch": True, "batch_size": batch_size}
        self.log("train_loss", self.loss_terms.total, prog_bar=True, **options)  # type: ignore[attr-defined]
        self.log_dict(terms, **options)  # type: ignore[attr-defined]
        return loss.total

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Predict for the batch, as anomalib's test step does."""
        del args, kwargs
        return batch.update(**self.model(plain_images(batch))._asdict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise an error if weights are non-finite, so that they cannot replace an earlier checkpoint."""
        check_weights(self.model, type(self).__name__)
        super().on_save_checkpoint(checkpoint)
