"""The augmenter of a training: checked and prepared before the first epoch."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from anomalib_plus.data.stage_data import datamodule_of_stage
from anomalib_plus.layers.checks import check_value_range
from anomalib_plus.training.repeatable import is_repeatable


class PrepareAugmenter(Callback):
    """Check ``model.augmenter`` and let it compute once what depends on an image alone.

    It may keep such results between epochs if every epoch shows the same images: with an anomalib dataset whose
    augmentations, and the pre-processor's transform, are known to be repeatable.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do so; ``model.images_repeat`` tells the outcome.

        Raises:
            FileNotFoundError: If the augmenter needs files that are missing.
        """
        model: Any = pl_module
        augmenter: Any = getattr(model, "augmenter", None)
        if augmenter is None:
            return
        augmenter.check()
        transform = model.pre_processor.transform if model.pre_processor else None
        dataset: Any = getattr(datamodule_of_stage(trainer), "train_data", None)
        # Without an anomalib dataset, nothing tells whether its images change between epochs.
        repeat = hasattr(dataset, "augmentations") and is_repeatable(dataset.augmentations) and is_repeatable(transform)
        model.images_repeat = repeat
        if not repeat:
            return

        def as_in_training(image: Tensor) -> Tensor:
            image = image if transform is None else transform(image)
            check_value_range(image, type(model).__name__)
            return image

        progress = trainer.progress_bar_callback is not None and trainer.is_global_zero
        augmenter.prepare(dataset, as_in_training, f"{transform} {dataset.augmentations}", progress)
