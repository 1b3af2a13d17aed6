"""Background removal for any anomalib model."""

from pathlib import Path
from typing import Any

from anomalib.data import Batch, InferenceBatch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from anomalib_plus.post_processing.foreground import (
    foreground_masks,
    hold_foreground,
    make_foreground,
    set_foreground,
)


class ForegroundPostProcessor(PostProcessor):
    """anomalib's post-processor, preceded by a multiplication of the anomaly maps by masks of the object.

    The image score becomes the maximum of the masked map, in validation too, so that thresholds and normalisation are
    computed from masked maps. Masks are computed from the pre-processed images, after undoing their normalisation.

    Pass it to any model: ``Padim(post_processor=ForegroundPostProcessor("otsu"))``, and, like every post-processor,
    again to ``load_from_checkpoint``.

    Args:
        foreground: "otsu", a folder of masks (see ``MaskFolder``), a module that maps images (B, 3, H, W) in [0, 1] to
            masks (B, 1, H, W) in [0, 1], or None.
        arguments: Arguments of ``PostProcessor``.

    Raises:
        TypeError: If ``foreground`` is none of these.
    """

    foreground: nn.Module | None

    def __init__(self, foreground: str | Path | nn.Module | None = "otsu", **arguments: Any) -> None:
        super().__init__(**arguments)
        hold_foreground(self)
        self.set_foreground(foreground)

    @classmethod
    def around(cls, inner: PostProcessor | bool, foreground: str | Path | nn.Module) -> "ForegroundPostProcessor":
        """Build one with the settings of another post-processor, or of a model's argument ``post_processor``.

        Raises:
            TypeError: If ``inner`` is of a subclass of ``PostProcessor``.
        """
        if isinstance(inner, bool):
            return cls(foreground, enable_normalization=inner, enable_thresholding=inner)
        if type(inner) is not PostProcessor:
            msg = f"foreground needs anomalib's own PostProcessor as post_processor, got {type(inner).__name__}."
            raise TypeError(msg)
        names = ("enable_normalization", "enable_thresholding", "enable_threshold_matching")
        sensitivities = {name: getattr(inner, name) for name in ("image_sensitivity", "pixel_sensitivity")}
        return cls(foreground, **{name: getattr(inner, name) for name in names}, **sensitivities)

    def remove_background(self, batch: Batch, pl_module: LightningModule) -> None:
        """Mask the anomaly maps of a batch, and recompute its scores.

        Raises:
            ValueError: If the model predicts no maps.
        """
        if self.foreground is None:
            return
        if batch.anomaly_map is None:
            msg = f"{type(pl_module).__name__} predicts no anomaly maps, which ForegroundPostProcessor needs."
            raise ValueError(msg)
        images = undo_normalization(batch.image, pl_module)
        maps = batch.anomaly_map
        masks = foreground_masks(self.foreground, images, batch.image_path)
        masked = maps * masks.reshape(maps.shape).to(maps)
        batch.update(anomaly_map=masked, pred_score=masked.flatten(1).amax(dim=1))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Remove the background, then update thresholds and ranges."""
        self.remove_background(outputs, pl_module)
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Remove the background, then normalise and threshold."""
        self.remove_background(outputs, pl_module)
        super().on_test_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Remove the background, then normalise and threshold."""
        self.remove_background(outputs, pl_module)
        super().on_predict_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def forward(self, predictions: InferenceBatch, images: Tensor | None = None) -> InferenceBatch:
        """Remove the background, then normalise and threshold; for exports and calls outside an ``Engine``.

        Args:
            predictions: Predictions of the model.
            images: Input of the network (B, 3, H, W) in [0, 1]; the models of this package pass it.

        Raises:
            RuntimeError: If there is a foreground but no images, as with anomalib's own models.
        """
        if self.foreground is not None:
            if images is None:
                msg = (
                    "ForegroundPostProcessor removes the background of this model within Engine.validate, test and "
                    "predict only. Set an ordinary PostProcessor before the model is exported or called directly."
                )
                raise RuntimeError(msg)
            maps = predictions.anomaly_map * foreground_masks(self.foreground, images)
            predictions = predictions._replace(anomaly_map=maps, pred_score=maps.flatten(1).amax(dim=1))
        return super().forward(predictions)

    def set_foreground(self, foreground: str | Path | nn.Module | None) -> None:
        """Set another foreground; see the class."""
        set_foreground(self, make_foreground(foreground))


def undo_normalization(images: Tensor, pl_module: LightningModule) -> Tensor:
    """Invert the ``Normalize`` transforms of the model's pre-processor; (B, 3, H, W) in [0, 1]."""
    pre_processor = getattr(pl_module, "pre_processor", None)
    for normalize in extract_transforms_by_type(getattr(pre_processor, "transform", None), Normalize):
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (normalize.mean, normalize.std))
        images = images * std + mean
    return images.clamp(0, 1)
