"""The pixels of an image that count: one mask for all images, or one per image."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import Batch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from anomalib_plus.post_processing.fixed_region import FixedRegion
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
_INSIDE = 0.5


class RegionOfInterest(nn.Module):
    """Masks of the pixels that count.

    One mask for all images is brought to the size of the anomaly maps with the first batch. It is then a buffer, and so
    part of checkpoints and exports.

    Args:
        choice: See :class:`~anomalib_plus.post_processing.RegionPostProcessor`.

    Raises:
        TypeError: If ``choice`` is of another type.
        ValueError: If an array is black or has another number of axes.
    """

    foreground: nn.Module | None
    """Module that computes one mask per image, if that is the choice."""
    mask: Tensor
    """The mask for all images (H, W), boolean; (0, 0) if there is none or it was not used yet."""
    _source: FixedRegion | None

    def __init__(self, choice: RegionChoice = None) -> None:
        super().__init__()
        hold_foreground(self)
        self.register_buffer("mask", torch.empty(0, 0, dtype=torch.bool))
        self.set(choice)

    def set(self, choice: RegionChoice) -> None:
        """Set another region."""
        self.path = str(choice) if isinstance(choice, str | Path) else None
        self.mask = self.mask.new_empty(0, 0)
        self._source = None
        if isinstance(choice, Tensor | np.ndarray) or (isinstance(choice, str | Path) and is_mask_file(choice)):
            self._source = FixedRegion(choice)
            choice = None
        set_foreground(self, make_foreground(choice))

    @property
    def is_set(self) -> bool:
        """False if all pixels count."""
        return self.foreground is not None or self._source is not None or self.mask.numel() > 0

    @property
    def is_computed(self) -> bool:
        """True if the masks are computed from the images or read by their names."""
        return self.foreground is not None

    def check_files(self) -> None:
        """Read the mask, or list the folder of masks, to raise their errors early."""
        if self._source is not None:
            self._source.read()
        if isinstance(self.foreground, MaskFolder):
            self.foreground.files  # noqa: B018

    def masks(
        self, maps: Tensor, images: Tensor | None = None, image_paths: Sequence[str] | None = None
    ) -> Tensor | None:
        """Return the pixels that count.

        Args:
            maps: Anomaly maps (B, 1, H, W) or (B, H, W).
            images: (B, 3, H, W) in [0, 1], if the masks are computed.
            image_paths: Their files, if the masks are read by their names.

        Returns:
            Boolean, broadcastable to ``maps``; None if all pixels count. An image of which nothing is inside counts as
            a whole.

        Raises:
            RuntimeError: If images are needed but missing, or the mask was not used before an export.
            ValueError: If the size of the mask is not that of the maps.
        """
        if self.foreground is not None:
            if images is None:
                msg = (
                    "This model's region of interest is computed from the images within Engine.validate, test and "
                    "predict only. Use one mask for all images (an image file), or set_roi(None), before the model is "
                    "exported or called directly."
                )
                raise RuntimeError(msg)
            inside = foreground_masks(self.foreground, images, image_paths) >= _INSIDE
            return (inside | ~inside.flatten(1).any(1)[:, None, None, None]).reshape(maps.shape)
        if self._source is not None and torch.compiler.is_exporting():
            msg = f"The region of interest {self._source.name} was not used yet: run engine.validate before the export."
            raise RuntimeError(msg)
        self._settle((maps.shape[-2], maps.shape[-1]))
        if not self.mask.numel():
            return None
        if maps.shape[-2:] != self.mask.shape:
            (height, width), (map_height, map_width) = self.mask.shape, maps.shape[-2:]
            msg = (
                f"The region of interest has {width}x{height} pixels, the anomaly maps {map_width}x{map_height} (width "
                "x height). Use the image size of the training, or set_roi to another mask."
            )
            raise ValueError(msg)
        return self.mask

    def masks_of_batch(self, batch: Batch, pl_module: LightningModule) -> Tensor | None:
        """Return the pixels of a batch's maps that count; see :meth:`masks`."""
        if not self.is_set:
            return None
        if batch.anomaly_map is None:
            msg = f"{type(pl_module).__name__} predicts no anomaly maps, which a region of interest needs."
            raise ValueError(msg)
        self.settle(batch, pl_module)
        images = undo_normalization(batch.image, pl_module) if self.is_computed else None
        return self.masks(batch.anomaly_map, images, batch.image_path)

    def settle(self, batch: Batch, pl_module: LightningModule) -> None:
        """Bring the mask to the size of a batch's images, if that was not done yet; see :meth:`.FixedRegion.at`."""
        transform = getattr(getattr(pl_module, "pre_processor", None), "transform", None)
        size = (batch.image.shape[-2], batch.image.shape[-1])
        self._settle(size, transform, batch.image_path[0] if batch.image_path else None)

    def _settle(self, size: tuple[int, int], transform: Any = None, image_path: str | None = None) -> None:
        """Set the mask; one from a checkpoint replaces a file that is gone."""
        source = self._source
        if source is None:
            return
        try:
            mask = source.at(size, transform, image_path).to(self.mask.device)
        except FileNotFoundError:
            if not self.mask.numel():
                raise
        else:
            if self.mask.numel() and not torch.equal(mask, self.mask):
                logger.warning(
                    "The region of interest %s differs from that of the checkpoint, whose thresholds do not belong to "
                    "it. Run engine.validate to compute them.",
                    source.name,
                )
            self.mask = mask
        self._source = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = state_dict.get(f"{prefix}mask")
        if saved is not None and saved.numel():
            self.mask = torch.empty_like(saved, device=self.mask.device)
        else:  # a checkpoint without region leaves that of the constructor
            state_dict[f"{prefix}mask"] = self.mask
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def masks_inside(batch: Batch, pl_module: LightningModule) -> Tensor | None:
    """Return the pixels of a batch's maps that count by the model's post-processor; None if all do."""
    roi = getattr(getattr(pl_module, "post_processor", None), "roi", None)
    return None if roi is None else roi.masks_of_batch(batch, pl_module)


def limited(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Replace the pixels outside of a region by the smallest inside, and take the largest inside as scores.

    Args:
        maps: (B, 1, H, W) or (B, H, W), any range.
        masks: Boolean, broadcastable to ``maps``, with at least one pixel for each.

    Returns:
        Maps of the same shape, and scores (B,).
    """
    lowest = maps.masked_fill(~masks, torch.inf).amin((-2, -1), keepdim=True)
    inside = torch.where(masks, maps, lowest)
    return inside, inside.flatten(1).amax(1)


def labelled_inside(batch: Batch, masks: Tensor | None) -> Batch:
    """Limit the true masks of a batch, if it has any, to the ``masks`` of :meth:`.RegionOfInterest.masks`.

    An image whose defects all lie outside becomes a good one. Returns the batch itself if there is nothing to limit.
    """
    if masks is None or batch.gt_mask is None:
        return batch
    truth = batch.gt_mask.bool()
    inside = truth & masks.reshape(-1, *masks.shape[-2:])
    only_outside = truth.flatten(1).any(1) & ~inside.flatten(1).any(1)
    labels = None if batch.gt_label is None else batch.gt_label & ~only_outside
    return batch.update(in_place=False, gt_mask=inside, gt_label=labels)
