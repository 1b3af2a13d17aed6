"""Regions of interest for any anomalib model."""

import logging
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from anomalib_plus.post_processing.fixed_region import FixedRegion, limited
from anomalib_plus.post_processing.foreground import (
    MaskFolder,
    foreground_masks,
    hold_foreground,
    is_mask_file,
    make_foreground,
    set_foreground,
    undo_normalization,
)

logger = logging.getLogger(__name__)

RegionChoice = str | Path | nn.Module | Tensor | np.ndarray | None
Kind = TypeVar("Kind", bound="RegionPostProcessor")


class RegionPostProcessor(PostProcessor):
    """anomalib's post-processor, limited to a region of interest.

    With a region, the image score is the largest pixel of the anomaly map inside, also for models whose own score is
    another one. Thresholds and ranges are computed from inside, and the map is 0 outside, where nothing is predicted.

    Pass it to any model, ``Padim(post_processor=RegionPostProcessor("mask.png"))``. The exported model contains one
    mask for all images, and also a module if the model is one of this package. A checkpoint contains one mask.

    Args:
        roi: One mask for all images, as image file or array (H, W) of the size of the images or of the model's input,
            where what is not 0 counts; a folder of masks, see :class:`~anomalib_plus.post_processing.MaskFolder`;
            "foreground", the object in each image by :class:`~anomalib_plus.post_processing.OtsuForeground`; a module
            that maps images (B, 3, H, W) in [0, 1] to masks (B, 1, H, W), 0.5 and more inside; or None. If a mask
            leaves nothing of an image, the whole image counts.
        arguments: Arguments of ``PostProcessor``.

    Raises:
        TypeError: If ``roi`` is none of these.
        ValueError: If an array is black or has another number of axes.
    """

    foreground: nn.Module | None
    """What computes one region per image, if ``roi`` does."""
    region: Tensor
    """The region of all images, (H, W) boolean, of the size of the anomaly maps; (0, 0) if there is none."""

    def __init__(self, roi: RegionChoice = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        hold_foreground(self)
        self.register_buffer("region", torch.empty(0, 0, dtype=torch.bool))
        self.set_roi(roi)

    def set_roi(self, roi: RegionChoice) -> None:
        """Set another region; see the class. Validate again to get its thresholds."""
        self._roi = str(roi) if isinstance(roi, str | Path) else None
        fixed = isinstance(roi, Tensor | np.ndarray) or (isinstance(roi, str | Path) and is_mask_file(roi))
        self._source = FixedRegion(roi) if fixed else None
        self.region = self.region.new_empty(0, 0)
        set_foreground(self, None if fixed else make_foreground(roi))

    @classmethod
    def around(cls, inner: PostProcessor | bool, roi: str | Path | nn.Module) -> "RegionPostProcessor":
        """Build one with the settings of another post-processor, or of a model's argument ``post_processor``.

        A ``RegionPostProcessor`` without region is returned itself, with the region.

        Raises:
            TypeError: If ``inner`` has another region, or is of another subclass of ``PostProcessor``.
        """
        if isinstance(inner, bool):
            return cls(roi, enable_normalization=inner, enable_thresholding=inner)
        if isinstance(inner, RegionPostProcessor):
            if inner.has_roi and inner._roi != str(roi):
                msg = f"There are two regions of interest, {roi} and that of {type(inner).__name__}. Leave one out."
                raise TypeError(msg)
            inner.set_roi(roi)
            return inner
        if type(inner) is not PostProcessor:
            msg = f"A region needs anomalib's own PostProcessor as post_processor, got {type(inner).__name__}."
            raise TypeError(msg)
        names = ("enable_normalization", "enable_thresholding", "enable_threshold_matching")
        sensitivities = {name: getattr(inner, name) for name in ("image_sensitivity", "pixel_sensitivity")}
        return cls(roi, **{name: getattr(inner, name) for name in names}, **sensitivities)

    @property
    def has_roi(self) -> bool:
        """True if there is a region."""
        return self.foreground is not None or self._source is not None or self.region.numel() > 0

    @property
    def needs_images(self) -> bool:
        """True if ``forward`` needs the images, from which the region is computed."""
        return self.foreground is not None

    def masks(self, maps: Tensor, images: Tensor | None = None, image_paths: list[str] | None = None) -> Tensor | None:
        """Compute which pixels count.

        Args:
            maps: Anomaly maps (B, 1, H, W) or (B, H, W).
            images: (B, 3, H, W) in [0, 1], if the region is computed from them.
            image_paths: Their files, if it is read from files of the same names.

        Returns:
            Boolean, broadcastable to ``maps``; None if all do.

        Raises:
            RuntimeError: If images are needed but missing, or the mask has not been brought to the size of the maps.
            ValueError: If the size of the region is not that of the maps.
        """
        if self.foreground is not None:
            if images is None:
                msg = (
                    "This model's region of interest is computed from the images within Engine.validate, test and "
                    "predict only. Use one mask for all images (an image file), or set_roi(None), before the model is "
                    "exported or called directly."
                )
                raise RuntimeError(msg)
            inside = foreground_masks(self.foreground, images, image_paths) >= 0.5
            return (inside | ~inside.flatten(1).any(1)[:, None, None, None]).reshape(maps.shape)
        if self._source is not None and not torch.compiler.is_exporting():
            self._settle(tuple(maps.shape[-2:]))
        if self._source is not None:
            msg = f"The region of interest {self._source.name} was not used yet: run engine.validate before the export."
            raise RuntimeError(msg)
        if not self.region.numel():
            return None
        if maps.shape[-2:] != self.region.shape:
            height, width = self.region.shape
            msg = (
                f"The region of interest has {width}x{height} pixels, the anomaly maps {maps.shape[-1]}x"
                f"{maps.shape[-2]}. Use the image size of the training, or set_roi to another mask."
            )
            raise ValueError(msg)
        return self.region

    def limit_to_roi(self, batch: Batch, pl_module: LightningModule) -> Tensor | None:
        """Limit the maps of a batch to the region, and take their largest pixels inside as scores.

        Returns:
            Which pixels count, see :meth:`masks`.

        Raises:
            ValueError: If there is a region but the model predicts no maps, or the mask has the wrong size.
        """
        if not self.has_roi:
            return None
        if batch.anomaly_map is None:
            msg = f"{type(pl_module).__name__} predicts no anomaly maps, which a region of interest needs."
            raise ValueError(msg)
        self._settle_for(batch, pl_module)
        images = undo_normalization(batch.image, pl_module) if self.needs_images else None
        masks = self.masks(batch.anomaly_map, images, batch.image_path)
        if masks is not None:
            maps, scores = limited(batch.anomaly_map, masks)
            batch.update(anomaly_map=maps, pred_score=scores)
        return masks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the mask before a training, so that a wrong path stops it at once."""
        del trainer, pl_module
        if stage == "fit" and self._source is not None:
            self._source.read()
        if stage == "fit" and isinstance(self.foreground, MaskFolder):
            self.foreground.files  # noqa: B018

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, *args: Any) -> None:
        """Bring the mask to the size of the images, so that one that does not fit stops the training at once."""
        del trainer, args
        self._settle_for(batch, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, then update thresholds and ranges."""
        masks = self.limit_to_roi(outputs, pl_module)
        if masks is not None and outputs.gt_mask is not None:  # defects outside do not count
            outputs = outputs.update(
                in_place=False, gt_mask=outputs.gt_mask.bool() & masks.reshape(-1, *masks.shape[-2:])
            )
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, normalise and threshold."""
        del trainer, args, kwargs
        self.post_process_batch(outputs, self.limit_to_roi(outputs, pl_module))

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, normalise and threshold."""
        self.on_test_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def post_process_batch(self, batch: Batch, masks: Tensor | None = None) -> None:
        """Normalise and threshold a batch; maps become 0 outside of the masks."""
        if self.enable_normalization:
            batch.pred_score, batch.anomaly_map = self.normalized(batch.pred_score, batch.anomaly_map)
        if masks is not None:
            batch.anomaly_map = batch.anomaly_map.masked_fill(~masks, 0)
        if self.enable_thresholding:
            self.threshold_batch(batch)

    def normalized(self, scores: Tensor | None, maps: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Normalise scores and maps, either of which may be None."""
        return (
            self._normalize(scores, self.image_min, self.image_max, self.image_threshold),
            self._normalize(maps, self.pixel_min, self.pixel_max, self.pixel_threshold),
        )

    def forward(self, predictions: InferenceBatch, images: Tensor | None = None) -> InferenceBatch:
        """Limit to the region, normalise and threshold; for exports and calls outside an ``Engine``.

        Args:
            predictions: Predictions of the model.
            images: Input of the network (B, 3, H, W) in [0, 1]; the models of this package pass it if needed.

        Raises:
            RuntimeError: If the region is computed from images but there are none, as with anomalib's own models.
            ValueError: If there are neither scores nor maps.
        """
        scores, maps = predictions.pred_score, predictions.anomaly_map
        if scores is None and maps is None:
            msg = "At least one of pred_score or anomaly_map must be provided."
            raise ValueError(msg)
        masks = None if maps is None else self.masks(maps, images)
        if masks is not None:
            maps, scores = limited(maps, masks)
        elif scores is None:
            scores = maps.amax((-2, -1))
        if self.enable_normalization:
            scores, maps = self.normalized(scores, maps)
        if masks is not None:
            maps = maps.masked_fill(~masks, 0)
        if not self.enable_thresholding:
            return InferenceBatch(pred_score=scores, anomaly_map=maps)
        return InferenceBatch(
            pred_score=scores,
            pred_label=self._apply_threshold(scores, self.normalized_image_threshold),
            anomaly_map=maps,
            pred_mask=self._apply_threshold(maps, self.normalized_pixel_threshold),
        )

    def checkpoint_config(self) -> dict[str, Any]:
        """Return the settings for a checkpoint: plain data that names the class and a region that is not one mask."""
        roi = self._roi if self.foreground is not None else None
        return {**super().checkpoint_config(), "class": type(self).__name__, "roi": roi}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore settings; a region that was passed to the constructor remains."""
        super().load_checkpoint_config(config)
        if config.get("roi") is not None and not self.has_roi:
            self.set_roi(config["roi"])

    def _settle_for(self, batch: Batch, pl_module: LightningModule) -> None:
        if self._source is not None:
            transform = getattr(getattr(pl_module, "pre_processor", None), "transform", None)
            image_path = batch.image_path[0] if batch.image_path else None
            self._settle(tuple(batch.image.shape[-2:]), transform, image_path)

    def _settle(self, size: tuple[int, ...], transform: Any = None, image_path: str | None = None) -> None:
        """Set ``region`` from the mask as it was given; one from a checkpoint replaces a file that is gone."""
        source = self._source
        if source is None:
            return
        try:
            region = source.at((size[0], size[1]), transform, image_path).to(self.region.device)
        except FileNotFoundError:
            if not self.region.numel():
                raise
        else:
            if self.region.numel() and not torch.equal(region, self.region):
                logger.warning(
                    "The region of interest %s differs from that of the checkpoint, whose thresholds do not belong to "
                    "it. Run engine.validate to compute them.",
                    source.name,
                )
            self.region = region
        self._source = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = state_dict.get(f"{prefix}region")
        if saved is not None and saved.numel():
            self.region = torch.empty_like(saved, device=self.region.device)
        else:  # a checkpoint without region leaves that of the constructor
            state_dict[f"{prefix}region"] = self.region
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
