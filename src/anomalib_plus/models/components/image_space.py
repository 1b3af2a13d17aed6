"""What the Lightning modules share: they take images in [0, 1] and do everything else themselves."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.transforms.v2 import Resize

from anomalib_plus.data.input_check import ImageFileCheck
from anomalib_plus.data.mask_pairs import check_links, check_mask_pairs
from anomalib_plus.models.components.checked_checkpoint import CheckedCheckpointMixin
from anomalib_plus.models.components.checkpoint_files import SafeCheckpoints
from anomalib_plus.models.components.fit_check import FitCheck
from anomalib_plus.models.components.last_epoch import LastEpochCheckpoint
from anomalib_plus.models.components.loss_terms import LossTerms
from anomalib_plus.models.components.loss_watch import LossWatch
from anomalib_plus.models.components.quantization import quantize_networks, quantize_networks_cautiously
from anomalib_plus.models.components.random_states import RandomStatesInCheckpoint
from anomalib_plus.models.components.resizing import pre_process

_RANGE_TOLERANCE = 1e-3
_GENERATOR_STATE = "anomaly_generator_state"


class ImageSpaceMixin(CheckedCheckpointMixin):
    """Pre-processing, input checks, evaluation steps and random state of an image-space model.

    Use it as ``class Model(ImageSpaceMixin, AnomalibModule)``: anomalib lists direct subclasses of its module only.
    """

    default_image_size: ClassVar[tuple[int, int]] = (256, 256)
    early_stopping_effect: ClassVar[str] = ""
    epochs_of_trainer: int = 0
    model: torch.nn.Module
    _anomaly_generator: torch.Generator | None = None
    _loss_watch: LossWatch | None = None

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Resize only: synthetic anomalies, losses and maps live in [0, 1], so there is no normalisation."""
        return PreProcessor(transform=Resize(image_size or cls.default_image_size, antialias=True))

    def configure_callbacks(self) -> Sequence[Callback]:
        """Anomalib's components, after a check of the image files that runs before any other work."""
        checks, files = (ImageFileCheck(), FitCheck()), (SafeCheckpoints(), RandomStatesInCheckpoint())
        return [*checks, *files, LastEpochCheckpoint(), *super().configure_callbacks()]  # type: ignore[misc]

    def prepare_data(self) -> None:
        """Name missing masks and broken links, on which anomalib's datamodules fail without naming them."""
        check_links(self.trainer.datamodule)  # type: ignore[attr-defined]
        check_mask_pairs(self.trainer.datamodule)  # type: ignore[attr-defined]

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No gradient clipping, no sanity check; the number of epochs is the user's."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Trained on normal images only."""
        return LearningType.ONE_CLASS

    @property
    def anomaly_generator(self) -> torch.Generator:
        """Host generator of the synthetic anomalies: its own stream, so a change elsewhere does not shift it.

        Seeded from torch's seed (``seed_everything``) plus the process rank at first use.
        """
        if self._anomaly_generator is None:
            rank: int = self.global_rank  # type: ignore[attr-defined]
            self._anomaly_generator = torch.Generator().manual_seed(torch.initial_seed() + rank)
        return self._anomaly_generator

    @property
    def loss_watch(self) -> LossWatch:
        """What stops the training once its loss is NaN or infinite."""
        if self._loss_watch is None:
            self._loss_watch = LossWatch(type(self).__name__, self.model)
        return self._loss_watch

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the watch over the loss, which would tell an exported file's reader names of training images."""
        return super().__getstate__() | {"_loss_watch": None}  # type: ignore[operator]

    def log_loss(self, loss: LossTerms, batch_size: int) -> Tensor:
        """Log the loss of a training batch and its terms as epoch means; give the total, for Lightning to minimise.

        Raises:
            FloatingPointError: If the loss is NaN or infinite; on a GPU some steps later, but before the weights get
                into a checkpoint.
        """
        self.loss_watch.record(loss)
        terms = {f"train_loss_{name}": value.detach() for name, value in loss.terms.items()}
        options = {"on_step": False, "on_epoch": True, "batch_size": batch_size}
        self.log("train_loss", loss.total.detach(), prog_bar=True, **options)  # type: ignore[attr-defined]
        self.log_dict(terms, **options)  # type: ignore[attr-defined]
        return loss.total

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Judge the batch, as in testing."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Check the value range of an epoch's first batch; tell the watch over the loss where the training is."""
        if batch_idx == 0:
            check_value_range(batch.image, type(self).__name__)
        self.loss_watch.begin(self.current_epoch, batch_idx, batch.image_path)  # type: ignore[attr-defined]

    def on_validation_start(self) -> None:
        """Do not judge with weights that are no numbers."""
        self.loss_watch.check()

    def on_train_epoch_end(self) -> None:
        """Look at the losses of the epoch."""
        self.loss_watch.check()

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check the value range of the first batch."""
        del dataloader_idx
        if batch_idx == 0:
            check_value_range(batch.image, type(self).__name__)

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """Judge images (B, 3, H, W) in [0, 1] of any size, the way exported models do, and with the engine's results.

        Unlike anomalib's, which resizes without antialiasing here and with it in the engine.
        """
        del args, kwargs
        verdict = self.model(pre_process(self.pre_processor, batch))  # type: ignore[attr-defined]
        return self.post_processor(verdict) if self.post_processor else verdict  # type: ignore[attr-defined]

    def _post_training_quantization_ov(self, model: Any, datamodule: Any = None) -> Any:
        """Quantise the networks alone: anomalib, which calls this for ``INT8_PTQ``, would quantise the map as well."""
        return quantize_networks(model, datamodule)

    def _accuracy_control_quantization_ov(
        self, model: Any, datamodule: Any = None, metric: Any = None, task: Any = None, max_drop: float = 0.01
    ) -> Any:
        """As above, for ``INT8_ACQ``. Anomalib's judges by outputs that the next batch has overwritten."""
        del task
        return quantize_networks_cautiously(model, datamodule, metric, max_drop)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are no numbers, so that they cannot replace an earlier checkpoint.

        Keep the state of the anomaly generator, so that a resumed training continues its stream.

        Lists that ``get_model`` passed as OmegaConf containers become plain lists, or ``weights_only`` loading fails.
        """
        self.loss_watch.check()
        self.loss_watch.check_weights()
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in checkpoint["hyper_parameters"].items()
        }
        if self._anomaly_generator is not None:
            checkpoint[_GENERATOR_STATE] = self._anomaly_generator.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the anomaly generator; the ranks after the first branch off from it.

        What the metrics of the training's evaluator left in the checkpoint (AUPRO keeps its limit there) is exchanged
        for what this model's evaluator has: a model must load whatever it was, or is to be, judged by.
        """
        super().on_load_checkpoint(checkpoint)
        weights, evaluator = checkpoint["state_dict"], self.evaluator  # type: ignore[attr-defined]
        for name in [name for name in weights if name.startswith("evaluator.")]:
            del weights[name]
        if evaluator is not None:
            weights.update({f"evaluator.{name}": value for name, value in evaluator.state_dict().items()})
        state = checkpoint.get(_GENERATOR_STATE)
        if state is None:
            return
        generator = torch.Generator()
        generator.set_state(state.cpu())
        rank: int = self.global_rank  # type: ignore[attr-defined]
        if rank > 0:
            generator.manual_seed(int(torch.randint(2**62, (), generator=generator)) + rank)
        self._anomaly_generator = generator


def check_value_range(images: Tensor, model_name: str) -> None:
    """Raise ``ValueError`` unless all values lie in [0, 1]; NaN is refused too."""
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        msg = (
            f"{model_name} works on images in [0, 1], but a batch holds values from {low:.3g} to {high:.3g}. Remove "
            f"Normalize from the pre-processor and the augmentations ({model_name}.configure_pre_processor() only "
            "resizes), or divide 8-bit values by 255."
        )
        raise ValueError(msg)
