"""Check of the validation images against the training images."""

import logging

from anomalib.data.utils import LabelName
from lightning.pytorch import Trainer

from anomalib_plus.counts import counted
from anomalib_plus.data.samples import samples_of
from anomalib_plus.data.stage_data import datamodule_of_stage, datasets_of
from anomalib_plus.validation import SyntheticValidation
from anomalib_plus.validation.image_groups import images_of_trained_parts

logger = logging.getLogger(__name__)


def warn_of_trained_parts(trainer: Trainer, model: str, group_by: str | None) -> None:
    """Warn if most good validation images of a fit show parts that the model was trained on, or look like it.

    ``group_by`` finds the part in an image's path; without it, names of one burst and similar details do.
    :class:`~anomalib_plus.validation.SyntheticValidation` has held parts out together, perhaps by their names.
    """
    if isinstance(datamodule_of_stage(trainer), SyntheticValidation):
        return
    training, validation = (
        sorted(
            {
                sample.image
                for dataset in datasets_of(loaders)
                for sample in samples_of(dataset)
                if sample is not None and sample.label == LabelName.NORMAL
            }
        )
        for loaders in (trainer.train_dataloader, trainer.val_dataloaders)
    )
    seen = images_of_trained_parts(training, validation, group_by)
    if 2 * len(seen) > len(validation):
        of_good = f"of {counted(len(validation), 'good validation image')}"
        logger.warning(
            "%s: %s like images of parts that it was trained on, for example %s. "
            "Their scores are then too low, and more good parts are rejected than the false-alarm rate says. Hold "
            "images of one part out together: SyntheticValidation (nuisance: null) does.",
            model,
            counted(len(seen), f"{of_good} looks", f"{of_good} look"),
            seen[0],
        )
