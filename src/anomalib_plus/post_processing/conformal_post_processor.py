"""Thresholds from good images with a bounded false-alarm rate, for any anomalib model."""

import logging
from typing import Any

import numpy as np
import torch
from anomalib.data import Batch
from anomalib.data.utils import LabelName
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torchmetrics import CatMetric

from anomalib_plus.counts import counted
from anomalib_plus.data.stage_data import datasets_of
from anomalib_plus.post_processing.conformal_math import (
    check_share,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    images_needed,
    p_values,
    smallest_rate,
)
from anomalib_plus.post_processing.region_of_interest import RegionChoice
from anomalib_plus.post_processing.region_post_processor import RegionPostProcessor
from anomalib_plus.post_processing.trained_parts import warn_of_trained_parts

logger = logging.getLogger(__name__)

_STEPS = 4.0
"""Distance of the median good score from the threshold on the normalised scale, which places it at 0.1."""
HOLD_OUT = (
    "Hold a share of the good training images out for validation (with Folder: val_split_mode: from_train, "
    "val_split_ratio: 0.2, seed: 0), or validate on good images."
)
"""Advice for a training without good validation images."""
_NUISANCE = (
    "SyntheticValidation varies the good validation images (nuisance), so the false-alarm rate is that of varied ones. "
    "Before you use the decisions, run engine.validate with nuisance=None and the same holdout and seed."
)
_CALIBRATION = ("image_scores", "pixel_scores")


class ConformalPostProcessor(RegionPostProcessor):
    """Post-processor whose thresholds come from good validation images by split conformal prediction.

    The image threshold is the ``ceil((n + 1) * (1 - a))``-th smallest score of the n good validation images, a being
    ``false_positive_rate``: a new good image exceeds it with a probability of at most a, on average over validation
    sets, if it is exchangeable with them and they were not trained on. The pixel threshold is computed in the same way
    from the largest pixel of each map, so a is also the rate of good images with a region that is marked. Defective
    validation images are ignored. See :mod:`~anomalib_plus.post_processing.conformal_math`.

    Scores and maps are normalised by one strictly increasing function with values between 0 and 1: 0.5 at the threshold
    and 0.1 at the median good score, without limits at which scores would become equal. What exceeds 0.5, or is NaN, is
    rejected.

    Pass it to any model, ``Padim(post_processor=ConformalPostProcessor(0.01))``, and, like every post-processor, again
    to ``load_from_checkpoint`` of anomalib's models.

    Args:
        false_positive_rate: Upper bound of the expected false-alarm rate, between 0 and 1.
        roi: Region of interest; see :class:`~anomalib_plus.post_processing.RegionPostProcessor`.
        confidence: Probability with which ``bound`` of :attr:`budget` holds for this validation set.

    Raises:
        TypeError: If ``roi`` is of another type.
        ValueError: If an argument is not between 0 and 1.
    """

    image_scores: Tensor
    """Scores of the good validation images before normalisation (n,), ascending."""
    pixel_scores: Tensor
    """Largest pixel of each of their maps (n,), ascending; empty for models without maps."""

    def __init__(self, false_positive_rate: float = 0.01, roi: RegionChoice = None, confidence: float = 0.95) -> None:
        super().__init__(roi)
        check_share("false_positive_rate", false_positive_rate)
        check_share("confidence", confidence)
        self.false_positive_rate = false_positive_rate
        self.confidence = confidence
        for name in _CALIBRATION:
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("image_scale", torch.tensor(1.0))
        self.register_buffer("pixel_scale", torch.tensor(1.0))
        self._new_image_scores = CatMetric(nan_strategy="disable")
        self._new_pixel_scores = CatMetric(nan_strategy="disable")
        self._warned_of = (-1, False)

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "false_positive_rate", "confidence")

    @property
    def n(self) -> int:
        """Number of good validation images that the thresholds come from."""
        return len(self.image_scores)

    @property
    def supported_rate(self) -> float:
        """Smallest false-alarm rate that n images support, 1 / (n + 1)."""
        return smallest_rate(self.n)

    @property
    def budget(self) -> dict[str, float]:
        """The thresholds and what is known of their false-alarm rate, as plain numbers.

        ``bound``: The rate is at most this, for this set of validation images, with probability ``confidence``.
        """
        rank = conformal_rank(self.n, self.false_positive_rate) if self.n else 1
        return {
            "n": self.n,
            "false_positive_rate": self.false_positive_rate,
            "supported_rate": self.supported_rate,
            "bound": false_alarm_bound(self.n, rank, self.confidence),
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

        Any shape; float64, in [1 / (n + 1), 1]. Needs a validation.
        """
        values = p_values(pred_score.detach().cpu().numpy(), self.calibration_scores.cpu().numpy())
        return torch.from_numpy(np.asarray(values))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Limit maps and scores to the region, and collect those of the good images."""
        del trainer, args, kwargs
        self.limit_to_roi(outputs, pl_module)
        if outputs.gt_label is None:
            return
        good = outputs.gt_label == LabelName.NORMAL
        scores, maps = outputs.pred_score, outputs.anomaly_map
        if scores is None and maps is not None:
            scores = maps.flatten(1).amax(1)
        if scores is not None and good.any():
            self._new_image_scores.update(scores.flatten()[good].float())
        if maps is not None and good.any():
            self._new_pixel_scores.update(maps.flatten(1).amax(1)[good].float())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute thresholds and scales; raise ``ValueError`` if a score of a good image is NaN or infinite."""
        collected = {}
        for name, metric in zip(_CALIBRATION, (self._new_image_scores, self._new_pixel_scores), strict=True):
            collected[name] = torch.as_tensor(metric.compute() if metric.update_called else []).flatten().sort().values
            metric.reset()
        if trainer.sanity_checking:
            return
        for name, values in collected.items():
            self.set_scores(name, values)
        varied = any(getattr(dataset, "nuisance", None) is not None for dataset in datasets_of(trainer.val_dataloaders))
        if trainer.is_global_zero and (self.n, varied) != self._warned_of:
            self._warned_of = (self.n, varied)
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
                warn_of_trained_parts(trainer, type(pl_module).__name__)

    def describe(self) -> str:
        """Describe the budget in one sentence."""
        found = self.budget
        expected = max(self.false_positive_rate, self.supported_rate)
        return (
            f"thresholds from {counted(self.n, 'good validation image')}: score {found['image_threshold']:.4g}, map "
            f"{found['pixel_threshold']:.4g}. The expected false-alarm rate is at most {expected:.2%}, if "
            f"production looks like these images; for this set of images it is at most {found['bound']:.2%} with a "
            f"confidence of {self.confidence:.0%}."
        )

    def set_scores(self, name: str, values: Tensor) -> None:
        """Set the ``image_scores`` or ``pixel_scores`` of good images (n,), and the threshold and scale they give."""
        values = values.sort().values.to(self.image_scale)
        setattr(self, name, values)
        level = name.removesuffix("_scores")
        threshold, scale = torch.full_like(self.image_scale, torch.nan), torch.ones_like(self.image_scale)
        if len(values):
            conformal_threshold(values.cpu().numpy(), self.false_positive_rate)  # raises if a score is not finite
            threshold = values[conformal_rank(len(values), self.false_positive_rate) - 1]
            scale = _scale(threshold, values)
        getattr(self, f"_{level}_threshold").copy_(threshold)
        getattr(self, f"{level}_scale").copy_(scale)

    def set_false_positive_rate(self, rate: float) -> None:
        """Compute the thresholds of another rate, between 0 and 1, from the scores of the last validation."""
        check_share("false_positive_rate", rate)
        self.false_positive_rate = rate
        for name in _CALIBRATION:
            self.set_scores(name, getattr(self, name))

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore the settings, to which the thresholds of the checkpoint belong."""
        given = self.false_positive_rate
        super().load_checkpoint_config(config)
        if given != self.false_positive_rate:
            logger.warning(
                "The checkpoint's thresholds are those of a false-alarm rate of %.3g, which is used instead of %.3g. "
                "For the latter, call post_processor.set_false_positive_rate(%.3g).",
                self.false_positive_rate,
                given,
                given,
            )

    def _warn(self, model: str, varied: bool) -> None:
        rate = self.false_positive_rate
        if varied:
            logger.warning("%s: %s", model, _NUISANCE)
        if not self.n:
            logger.warning("%s: no good images in validation, so there are no thresholds. %s", model, HOLD_OUT)
        elif self.n < images_needed(rate):
            logger.warning(
                "%s: %s cannot keep a false-alarm rate of %.3g, which needs at least %d. The "
                "threshold is their largest score; the smallest rate that they allow is %.3g. Validate on more good "
                "images, or set false_positive_rate=%.3g.",
                model,
                counted(self.n, "good validation image"),
                rate,
                images_needed(rate),
                self.supported_rate,
                self.supported_rate,
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
        for name in _CALIBRATION:  # their length is that of the saved ones
            if f"{prefix}{name}" in state_dict:
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"], device=self.image_scale.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def normalize(scores: Tensor, threshold: Tensor, scale: Tensor) -> Tensor:
    """Map scores to values between 0 and 1, strictly increasing, 0.5 at the threshold; part of exported graphs.

    Below the threshold the value is ``0.5 / (1 + d)``, above it ``1 - 0.5 / (1 + log(1 + d))``, where ``d`` is the
    distance from the threshold in units of ``scale``. The logarithm keeps scores far above apart in float32. Scores of
    any shape and range; they are returned unchanged if the threshold is NaN.
    """
    steps = (scores - threshold) / scale
    distance = steps.abs()
    normalized = torch.where(steps > 0, 1 - 0.5 / (1 + distance.log1p()), 0.5 / (1 + distance))
    return torch.where(threshold.isnan(), scores, normalized)


def _scale(threshold: Tensor, values: Tensor) -> Tensor:
    """Return a positive unit of length for scores: a fraction of the threshold's distance from the median."""
    distances = (threshold - values.median(), threshold - values.min(), threshold.abs(), torch.ones_like(threshold))
    return next(distance for distance in distances if distance > 0) / _STEPS
