"""Thresholds from good images with a bounded false-alarm rate, for any anomalib model."""

import logging
from typing import Any

import numpy as np
import torch
from anomalib.data import Batch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from anomalib_plus.counts import counted_of_parts
from anomalib_plus.data.stage_data import datasets_of
from anomalib_plus.post_processing.conformal_math import (
    check_share,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    images_needed,
    p_values,
    rounded_up,
    smallest_rate,
)
from anomalib_plus.post_processing.conformal_scale import normalize, scale_of, to_numpy
from anomalib_plus.post_processing.good_images import GoodImages
from anomalib_plus.post_processing.region_of_interest import RegionChoice
from anomalib_plus.post_processing.region_post_processor import RegionPostProcessor
from anomalib_plus.post_processing.trained_parts import warn_of_trained_parts
from anomalib_plus.validation.image_groups import compiled

logger = logging.getLogger(__name__)

HOLD_OUT = (
    "Hold a share of the good training images out for validation (with Folder: val_split_mode: from_train, "
    "val_split_ratio: 0.2, seed: 0), or validate on good images."
)
"""Advice for a training without good validation images."""
_NUISANCE = (
    "SyntheticValidation varies the good validation images (nuisance), so the false-alarm rate is that of varied ones. "
    "Before you use the decisions, run engine.validate with nuisance=None and the same holdout and seed."
)
_CALIBRATION = {"image_scores": "image_parts", "pixel_scores": "pixel_parts"}
"""Buffers of scores, and of the parts of the images that have them."""


class ConformalPostProcessor(RegionPostProcessor):
    """Post-processor whose thresholds come from good validation images by split conformal prediction.

    The image threshold is the ``ceil((n + 1) * (1 - a))``-th smallest score of the n good validation images, a being
    ``false_positive_rate``: a new good image exceeds it with a probability of at most a, on average over validation
    sets, if it is exchangeable with them and they were not trained on. The pixel threshold is computed in the same way
    from the largest pixel of each map, so a is also the rate of good images with a region that is marked. Defective
    validation images are ignored.

    Images of one part are not independent, so each part has the same weight, shared by its images, and a holds for
    images of new parts. ``group_by`` tells which images show the same part, or else the column ``part`` of the
    datasets' samples, which :class:`~anomalib_plus.validation.SyntheticValidation` fills in. Without either, each image
    is taken for a part of its own. See :mod:`~anomalib_plus.post_processing.conformal_math`.

    Scores and maps are normalised by one strictly increasing function with values between 0 and 1: 0.5 at the threshold
    and 0.1 at the median good score, without limits at which scores would become equal. What exceeds 0.5, or is NaN, is
    rejected.

    Pass it to any model, ``Padim(post_processor=ConformalPostProcessor(0.01))``, and, like every post-processor, again
    to ``load_from_checkpoint`` of anomalib's models.

    Args:
        false_positive_rate: Upper bound of the expected false-alarm rate, between 0 and 1.
        roi: Region of interest; see :class:`~anomalib_plus.post_processing.RegionPostProcessor`.
        confidence: Probability with which ``bound`` of :attr:`budget` holds for this validation set.
        group_by: Regular expression, searched in each path: validation images with the same first group, or without one
            the same match, show the same part; those without a match stand alone.

    Raises:
        TypeError: If ``roi`` is of another type.
        ValueError: If a number is not between 0 and 1, or ``group_by`` is no regular expression.
    """

    image_scores: Tensor
    """Scores of the good validation images before normalisation (n,), ascending."""
    pixel_scores: Tensor
    """Largest pixel of each of their maps (n,), ascending; empty for models without maps."""
    image_parts: Tensor
    """Number of the part that the image of each of ``image_scores`` shows (n,), int64."""
    pixel_parts: Tensor
    """Number of the part that the image of each of ``pixel_scores`` shows (n,), int64."""

    def __init__(
        self,
        false_positive_rate: float = 0.01,
        roi: RegionChoice = None,
        confidence: float = 0.95,
        group_by: str | None = None,
    ) -> None:
        super().__init__(roi)
        check_share("false_positive_rate", false_positive_rate)
        check_share("confidence", confidence)
        if group_by is not None:
            compiled(group_by)
        self.false_positive_rate = false_positive_rate
        self.confidence = confidence
        self.group_by = group_by
        for scores, parts in _CALIBRATION.items():
            self.register_buffer(scores, torch.empty(0))
            self.register_buffer(parts, torch.empty(0, dtype=torch.int64))
        self.register_buffer("image_scale", torch.tensor(1.0))
        self.register_buffer("pixel_scale", torch.tensor(1.0))
        self._good_images = GoodImages()
        self._warned_of = (-1, -1, False)

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "false_positive_rate", "confidence", "group_by")

    @property
    def n(self) -> int:
        """Number of good validation images that the thresholds come from."""
        return len(self.image_scores)

    @property
    def n_parts(self) -> int:
        """Number of parts that they show."""
        return len(self.image_parts.cpu().unique())

    @property
    def supported_rate(self) -> float:
        """Smallest false-alarm rate that they support, 1 / (number of parts + 1)."""
        return smallest_rate(self.n_parts)

    @property
    def budget(self) -> dict[str, float]:
        """The thresholds and what is known of their false-alarm rate, as plain numbers.

        ``bound``: The rate is at most this, for this set of validation images, with probability ``confidence``; only
        approximately if there are several images of a part.
        """
        parts = self.n_parts
        rank = conformal_rank(parts, self.false_positive_rate) if parts else 1
        return {
            "n": self.n,
            "n_parts": parts,
            "false_positive_rate": self.false_positive_rate,
            "supported_rate": self.supported_rate,
            "bound": false_alarm_bound(parts, rank, self.confidence),
            "confidence": self.confidence,
            "image_threshold": float(self._image_threshold),
            "pixel_threshold": float(self._pixel_threshold),
        }

    @property
    def calibration_scores(self) -> Tensor:
        """Normalised scores of the good validation images (n,), ascending."""
        return normalize(self.image_scores, self._image_threshold, self.image_scale)

    def p_value(self, pred_score: Tensor) -> Tensor:
        """Compute the conformal p-values of normalised scores: the share of good images that score as high.

        Any shape; float64, in [1 / (number of parts + 1), 1]. Needs a validation.
        """
        calibration = (to_numpy(self.calibration_scores), self.image_parts.cpu().numpy())
        return torch.from_numpy(np.asarray(p_values(to_numpy(pred_score), *calibration)))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, and collect those of the good images."""
        del args, kwargs
        self.limit_to_roi(outputs, pl_module)
        self._good_images.add(outputs, trainer, self.group_by)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute thresholds and scales.

        Raises:
            ValueError: If a score of a good image is NaN or infinite, or ``group_by`` matches no image.
        """
        images, pixels, parts = self._good_images.take(None if trainer.sanity_checking else self.group_by)
        if trainer.sanity_checking:
            return
        self.set_scores("image_scores", images, parts)
        self.set_scores("pixel_scores", pixels, parts[: len(pixels)])
        varied = any(getattr(dataset, "nuisance", None) is not None for dataset in datasets_of(trainer.val_dataloaders))
        found = (self.n, self.n_parts, varied)
        if trainer.is_global_zero and found != self._warned_of:
            self._warned_of = found
            self._warn(type(pl_module).__name__, varied)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the thresholds are and what they promise, after a validation outside of a training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_fit_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the thresholds are and what they promise."""
        if self.n and trainer.is_global_zero:
            rank_zero_info(f"{type(pl_module).__name__}: {self.describe()}")
            if trainer.state.fn == TrainerFn.FITTING:
                warn_of_trained_parts(trainer, type(pl_module).__name__, self.group_by)

    def describe(self) -> str:
        """Describe the budget in one sentence."""
        found = self.budget
        expected = max(self.false_positive_rate, self.supported_rate)
        about = "" if self.n == self.n_parts else "about "
        of_maps = f", map {found['pixel_threshold']:.4g}" if len(self.pixel_scores) else ""
        return (
            f"thresholds from {self._images()}: score {found['image_threshold']:.4g}{of_maps}. "
            f"The expected false-alarm rate is at most {expected:.2%}, if production looks like these images; for this "
            f"set of images it is at most {about}{found['bound']:.2%} with a confidence of {self.confidence:.0%}."
        )

    def _images(self) -> str:
        return counted_of_parts(self.n, self.n_parts, "good validation image")

    def set_scores(self, name: str, values: Tensor, parts: Tensor) -> None:
        """Set ``image_scores`` or ``pixel_scores``, and the threshold and scale that they give.

        ``values`` are the scores (n,) of good images, ``parts`` the numbers (n,), int64, of the parts that these show.
        A ``ValueError`` is raised if a score is not finite.
        """
        values, order = values.to(self.image_scale).sort()
        parts = parts.to(order.device)[order]
        setattr(self, name, values)
        setattr(self, _CALIBRATION[name], parts)
        level = name.removesuffix("_scores")
        threshold, scale = torch.full_like(self.image_scale, torch.nan), torch.ones_like(self.image_scale)
        if len(values):
            threshold.fill_(conformal_threshold(to_numpy(values), self.false_positive_rate, parts.cpu().numpy()))
            scale = scale_of(threshold, values)
        getattr(self, f"_{level}_threshold").copy_(threshold)
        getattr(self, f"{level}_scale").copy_(scale)

    def set_false_positive_rate(self, rate: float) -> None:
        """Compute the thresholds of another rate, between 0 and 1, from the scores of the last validation."""
        check_share("false_positive_rate", rate)
        self.false_positive_rate = rate
        for scores, parts in _CALIBRATION.items():
            self.set_scores(scores, getattr(self, scores), getattr(self, parts))

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore the settings, to which the thresholds of the checkpoint belong; a given ``group_by`` stays."""
        given, group_by = self.false_positive_rate, self.group_by
        super().load_checkpoint_config(config)
        self.group_by = group_by or self.group_by
        if given != self.false_positive_rate:
            logger.warning(
                "The checkpoint's thresholds are those of a false-alarm rate of %.3g, which is used instead of %.3g. "
                "For the latter, call post_processor.set_false_positive_rate(%.3g).",
                self.false_positive_rate,
                given,
                given,
            )

    def _warn(self, model: str, varied: bool) -> None:
        rate, supported = self.false_positive_rate, rounded_up(self.supported_rate)
        if varied:
            logger.warning("%s: %s", model, _NUISANCE)
        if not self.n:
            logger.warning("%s: no good images in validation, so there are no thresholds. %s", model, HOLD_OUT)
        elif self.n_parts < images_needed(rate):
            several = self.n_parts < self.n
            logger.warning(
                "%s: %s cannot keep a false-alarm rate of %.3g, which needs at least %d%s. The "
                "threshold is their largest score; the smallest rate that they allow is %.3g. Validate on %s, "
                "or set false_positive_rate=%.3g.",
                model,
                self._images(),
                rate,
                images_needed(rate),
                " parts" if several else "",
                supported,
                "images of more good parts" if several else "more good images",
                supported,
            )

    def normalized(self, scores: Tensor | None, maps: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Normalise scores and maps; see the class."""
        return (
            None if scores is None else normalize(scores, self._image_threshold, self.image_scale),
            None if maps is None else normalize(maps, self._pixel_threshold, self.pixel_scale),
        )

    @staticmethod
    def _apply_threshold(preds: Tensor | None, threshold: Tensor) -> Tensor | None:
        return None if preds is None else ~(preds <= threshold)  # rejects NaN

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for scores, parts in _CALIBRATION.items():  # their length is that of the saved ones
            if (saved := state_dict.get(f"{prefix}{scores}")) is None:
                continue
            state_dict.setdefault(f"{prefix}{parts}", torch.arange(len(saved)))  # older checkpoints have none
            for name in (scores, parts):
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"], device=self.image_scale.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
