"""Regions of interest for any anomalib model."""

from pathlib import Path
from typing import Any

from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from anomalib_plus.post_processing.region_of_interest import RegionChoice, RegionOfInterest, labelled_inside, limited


class RegionPostProcessor(PostProcessor):
    """anomalib's post-processor, limited to a region of interest.

    With a region, the image score is the largest pixel of the anomaly map inside, also for models whose own score is
    another one. Thresholds and ranges are computed from inside, and the map is 0 outside, where nothing is predicted.
    :class:`~anomalib_plus.post_processing.DecisionEvaluator` computes metrics from inside,
    :class:`~anomalib_plus.post_processing.RegionVisualizer` draws the outline.

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

    def __init__(self, roi: RegionChoice = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.roi = RegionOfInterest(roi)

    def set_roi(self, roi: RegionChoice) -> None:
        """Set another region; see the class. Validate again to get its thresholds."""
        self.roi.set(roi)

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
            if inner.roi.is_set and inner.roi.path != str(roi):
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
    def needs_images(self) -> bool:
        """True if ``forward`` needs the images, from which the region is computed."""
        return self.roi.is_computed

    def limit_to_roi(self, batch: Batch, pl_module: LightningModule) -> Tensor | None:
        """Limit the maps of a batch, take their largest pixels inside as scores, and return the region's masks."""
        masks = self.roi.masks_of_batch(batch, pl_module)
        if masks is not None:
            maps, scores = limited(batch.anomaly_map, masks)
            batch.update(anomaly_map=maps, pred_score=scores)
        return masks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the mask before a training, so that a wrong path stops it at once."""
        del trainer, pl_module
        if stage == "fit":
            self.roi.check_files()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, *args: Any) -> None:
        """Bring the mask to the size of the images, so that one that does not fit stops the training at once."""
        del trainer, args
        self.roi.settle(batch, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, then update thresholds and ranges."""
        outputs = labelled_inside(outputs, self.limit_to_roi(outputs, pl_module))
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, normalise and threshold."""
        del trainer, args, kwargs
        self.post_process_batch(outputs, self.limit_to_roi(outputs, pl_module))

    on_predict_batch_end = on_test_batch_end

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

        A computed region needs the network's input, ``images`` (B, 3, H, W) in [0, 1], which the models of this package
        pass and anomalib's do not.
        """
        scores, maps = predictions.pred_score, predictions.anomaly_map
        if scores is None and maps is None:
            msg = "At least one of pred_score or anomaly_map must be provided."
            raise ValueError(msg)
        masks = None if maps is None else self.roi.masks(maps, images)
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
        roi = self.roi.path if self.roi.is_computed else None
        return {**super().checkpoint_config(), "class": type(self).__name__, "roi": roi}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore settings; a region that was passed to the constructor remains."""
        super().load_checkpoint_config(config)
        if config.get("roi") is not None and not self.roi.is_set:
            self.set_roi(config["roi"])
