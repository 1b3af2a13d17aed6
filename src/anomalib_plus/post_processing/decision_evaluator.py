"""Metrics inside the region of interest, and rates of false alarms and detections at the threshold."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from anomalib.data import Batch
from anomalib.metrics import AUPR, AUPRO, AUROC, PRO, AnomalibMetric, Evaluator, F1Max, F1Score
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from anomalib_plus.post_processing.decision_rates import DEFECTIVE, GOOD, count_decisions, rates_of
from anomalib_plus.post_processing.region_of_interest import labelled_inside, masks_inside

_LOGGED = {GOOD: "false_alarm_rate", DEFECTIVE: "detection_rate"}
_OF_PIXELS = {"anomaly_map", "pred_mask", "gt_mask"}
_OF_DEFECTS = (AUROC, AUPR, AUPRO, PRO, F1Score, F1Max)
"""Metrics that are not defined without a defect, where torchmetrics gives 0."""


class DecisionEvaluator(Evaluator):
    """anomalib's evaluator, limited to the region of interest, with the rates of the decisions.

    A test logs ``false_alarm_rate`` and ``detection_rate``, and prints them with their intervals, also for each type of
    defect, as :func:`~anomalib_plus.post_processing.compute_decision_rates` does. Pixels outside of the region of the
    model's :class:`~anomalib_plus.post_processing.RegionPostProcessor` belong to no metric, except that AUPRO counts
    them as good pixels with the lowest value. An image whose defects all lie outside counts as good. Without an image
    of a defect, a test leaves out AUROC, AUPR, AUPRO, PRO and F1 score, and warns.

    Args:
        val_metrics: Metrics of a validation.
        test_metrics: Metrics of a test; None for image and pixel AUROC and F1 score, anomalib's default.
        confidence: Probability that an interval contains the rate, at least.
        arguments: Arguments of ``Evaluator``.
    """

    test_metrics: nn.ModuleList

    def __init__(
        self,
        val_metrics: AnomalibMetric | Sequence[AnomalibMetric] | None = None,
        test_metrics: AnomalibMetric | Sequence[AnomalibMetric] | None = None,
        confidence: float = 0.95,
        **arguments: Any,
    ) -> None:
        super().__init__(val_metrics, _default_metrics() if test_metrics is None else test_metrics, **arguments)
        self.confidence = confidence
        self._rejected: dict[str, list[bool]] = {}
        self._saw_defect = False

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Update the metrics of a validation."""
        del trainer, outputs, args, kwargs
        masks = masks_inside(batch, pl_module)
        _update(self.val_metrics, labelled_inside(batch, masks), masks)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Update the metrics of a test, and count the decisions."""
        del trainer, outputs, args, kwargs
        masks = masks_inside(batch, pl_module)
        inside = labelled_inside(batch, masks)
        _update(self.test_metrics, inside, masks)
        self._saw_defect |= inside.gt_label is None or bool(inside.gt_label.any())
        if inside.pred_label is not None and inside.gt_label is not None:
            count_decisions(inside, self._rejected)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log metrics and rates, and print the rates; with several processes, those of the first one's images."""
        metrics = self.test_metrics
        if not trainer.strategy.reduce_boolean_decision(self._saw_defect, all=False):
            self.test_metrics = self._without_those_of_defects()
        super().on_test_epoch_end(trainer, pl_module)
        self.test_metrics, self._saw_defect = metrics, False
        if not self._rejected:
            return
        rates = rates_of(self._rejected, self.confidence)
        self._rejected = {}
        for rate in rates:
            if rate.group in _LOGGED:
                self.log(_LOGGED[rate.group], rate.rate, rank_zero_only=True)
        lines = [f"{type(pl_module).__name__} at its threshold, with intervals of {self.confidence:.0%} confidence:"]
        rank_zero_info("\n  ".join([*lines, *map(str, rates)]))

    def _without_those_of_defects(self) -> nn.ModuleList:
        left_out = [metric for metric in self.test_metrics if isinstance(metric, _OF_DEFECTS)]
        for metric in left_out:
            metric.reset()  # Lightning resets those only that are logged
        if left_out:
            names = ", ".join(metric.name for metric in left_out)
            rank_zero_warn(
                f"No image of the test has a defect, so {names} are left out: they need images of bad parts."
            )
        return nn.ModuleList(metric for metric in self.test_metrics if metric not in left_out)


def _default_metrics() -> list[AnomalibMetric]:
    return [
        AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
        F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
        AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False),
        F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
    ]


def _update(metrics: Any, batch: Batch, masks: Tensor | None) -> None:
    """Update metrics of pixels with those inside, image by image, and all others with the batch."""
    for metric in metrics:
        if masks is None or not set(metric.fields) <= _OF_PIXELS or isinstance(metric, AUPRO):
            metric.update(batch)
            continue
        for index, mask in enumerate(masks.reshape(-1, *masks.shape[-2:]).expand(len(batch.image), -1, -1)):
            fields = {name: getattr(batch, name) for name in metric.fields}
            pixels = {
                name: None if values is None else values[index].reshape(mask.shape)[mask][None]
                for name, values in fields.items()
            }
            metric.update(SimpleNamespace(**pixels))
