"""Warnings about thresholds that are missing or were computed without the images that they need."""

import logging
from collections.abc import Sized
from typing import Any

from anomalib.data.utils import LabelName
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_plus.data.samples import samples_of
from anomalib_plus.data.stage_data import datasets_of
from anomalib_plus.post_processing.conformal_post_processor import HOLD_OUT, ConformalPostProcessor

logger = logging.getLogger(__name__)


class ThresholdCheck(Callback):
    """Warn at the start of a training without defects to validate on, and of a test or prediction without threshold.

    ``ConformalPostProcessor`` needs good validation images only. Labels are known for anomalib's datasets, their
    subsets and concatenations. Models without thresholds are ignored.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the validation set."""
        post_processor = _thresholds(pl_module)
        if trainer.is_global_zero and post_processor:
            needs_defects = not isinstance(post_processor, ConformalPostProcessor)
            _load_validation_data(trainer)
            problem = _problem_of_validation(datasets_of(trainer.val_dataloaders), needs_defects)
            if problem:
                logger.warning("%s: %s", type(pl_module).__name__, problem)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the image threshold."""
        post_processor = _thresholds(pl_module)
        if trainer.is_global_zero and post_processor and post_processor.image_threshold.isnan():
            logger.warning(
                "%s has no image threshold (it is NaN), because it was never validated. Its decisions (pred_label) "
                "compare scores that are not normalised with %.2g, so they may reject or accept every part. Train with "
                "a validation set that contains defects, or run engine.validate on one, and use that model.",
                type(pl_module).__name__,
                float(post_processor.normalized_image_threshold),
            )

    on_predict_start = on_test_start


def _load_validation_data(trainer: Trainer) -> None:
    """Load them as Lightning does, which waits for the first validation if it is not due in the first epoch."""
    if trainer.val_dataloaders is None and trainer.enable_validation:
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
        trainer.training = True


def _thresholds(model: LightningModule) -> PostProcessor | None:
    """Return the model's post-processor if it computes thresholds."""
    post_processor = getattr(model, "post_processor", None)
    thresholds = isinstance(post_processor, PostProcessor) and post_processor.enable_thresholding
    return post_processor if thresholds else None


def _problem_of_validation(datasets: list[Any], needs_defects: bool) -> str | None:
    filled = [dataset for dataset in datasets if not (isinstance(dataset, Sized) and len(dataset) == 0)]
    if not needs_defects:  # the post-processor counts the good images itself
        return None if filled else f"there are no validation images, so its thresholds will be NaN. {HOLD_OUT}"
    if not filled:
        return (
            "there are no validation images, so its thresholds will be NaN and its decisions (pred_label) meaningless: "
            "they may reject or accept every part. Validate on images with defects: abnormal_dir of Folder, "
            "val_dataloaders, or a datamodule whose validation set has some."
        )
    count = 0
    for dataset in filled:
        samples = samples_of(dataset)
        if not samples or any(sample is None or sample.label != LabelName.NORMAL for sample in samples):
            return None
        count += len(samples)
    return (
        f"no defect among the validation images ({count}), so F1 cannot choose a threshold: anomalib takes their "
        "highest score, and how many defects that misses is unknown. Image AUROC of good images alone is always 0.0. "
        "Add images of defects (abnormal_dir of Folder), or wrap the datamodule in anomalib_plus.SyntheticValidation, "
        "or use post_processor=ConformalPostProcessor(), whose threshold needs good images only."
    )
