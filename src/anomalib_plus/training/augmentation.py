"""Synthetic anomalies during training: the model's augmenter and its preparation."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from anomalib.data import Batch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from anomalib_plus.data.stage_data import datamodule_of_stage
from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.layers.checks import check_value_range
from anomalib_plus.training.repeatable import is_repeatable
from anomalib_plus.transforms import Augmenter, SyntheticBatch, build_augmenter


def plain_images(batch: Batch) -> Tensor:
    """Return the images as a plain tensor: a compiled network does not train on torchvision's ``Image``."""
    return batch.image.as_subclass(Tensor)


class AugmenterMixin:
    """Exchangeable augmenter, stored in checkpoints as plain data, with its own random generator."""

    augmenter: Augmenter | None
    images_repeat: bool = False
    """True if every epoch shows the same images; set by :class:`PrepareAugmenter`."""
    _anomaly_generator: torch.Generator | None = None

    @classmethod
    def configure_augmenter(cls, **arguments: Any) -> Augmenter:
        """Return the synthetic anomalies of the paper; ``arguments`` override its values."""
        msg = f"{cls.__name__} trains without synthetic anomalies, got {arguments}."
        raise ValueError(msg)

    def set_augmenter(self, augmenter: Augmenter | Mapping[str, Any] | bool) -> None:
        """Set the synthetic anomalies: a transform or its plain data, True for the paper's, False for none."""
        if isinstance(augmenter, bool):
            self.augmenter = self.configure_augmenter() if augmenter else None
        else:
            self.augmenter = build_augmenter(augmenter)
        self.hparams["augmenter"] = False if self.augmenter is None else self.augmenter.config()  # type: ignore[attr-defined]

    @property
    def makes_anomalies(self) -> bool:
        """True if there is an augmenter and it can change images."""
        strengths = [getattr(self.augmenter, name, 1) for name in ("probability", "opacity")]
        return self.augmenter is not None and not any(strength in (0, (0, 0)) for strength in strengths)

    def save_hyperparameters(self, *args: Any, ignore: Sequence[str] = (), frame: Any = None, **kwargs: Any) -> None:
        """Save all arguments but the augmenter, which :meth:`set_augmenter` adds as plain data."""
        frame = frame or inspect.currentframe().f_back  # type: ignore[union-attr]
        super().save_hyperparameters(*args, ignore=[*ignore, "augmenter"], frame=frame, **kwargs)  # type: ignore[misc]

    def corrupt(self, batch: Batch) -> SyntheticBatch:
        """Add synthetic anomalies to the images of a training batch; needs an augmenter."""
        keys = batch.image_path if self.images_repeat else None
        return self.augmenter.corrupt(plain_images(batch), self.anomaly_generator, keys)  # type: ignore[union-attr]

    @property
    def anomaly_generator(self) -> torch.Generator:
        """CPU generator of the synthetic anomalies, seeded at first use by torch's seed plus the process rank.

        A separate generator, so that other random draws do not change the anomalies.
        """
        if self._anomaly_generator is None:
            rank: int = self.global_rank  # type: ignore[attr-defined]
            self._anomaly_generator = torch.Generator().manual_seed(torch.initial_seed() + rank)
        return self._anomaly_generator


class PrepareAugmenter(Callback):
    """Check ``model.augmenter`` and let it precompute results per image if every epoch shows the same images.

    That is known for anomalib datasets if their augmentations and the pre-processor's transform are deterministic.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check and prepare the augmenter, and set ``model.images_repeat``.

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
        # Other datasets than anomalib's do not tell whether their images change between epochs.
        repeat = hasattr(dataset, "augmentations") and is_repeatable(dataset.augmentations) and is_repeatable(transform)
        model.images_repeat = repeat
        if not repeat:
            return

        def as_in_training(image: Tensor) -> Tensor:
            image = pre_process(model.pre_processor, image)
            check_value_range(image, type(model).__name__)
            return image

        progress = trainer.progress_bar_callback is not None and trainer.is_global_zero
        augmenter.prepare(dataset, as_in_training, f"{transform} {dataset.augmentations}", progress)
