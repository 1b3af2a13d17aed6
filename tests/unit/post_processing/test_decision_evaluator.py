"""Metrics inside a region, and the rates of decisions, without a trainer."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO
from sklearn.metrics import f1_score, roc_auc_score

from anomalib_plus.metrics import SizeSplitAUROC
from anomalib_plus.post_processing import DecisionEvaluator, RegionPostProcessor, compute_decision_rates
from anomalib_plus.post_processing.conformal_math import clopper_pearson


def labelled_batch() -> ImageBatch:
    """Two good images; a defect inside the left half, one outside of it, one across."""
    torch.manual_seed(0)
    masks = torch.zeros(5, 16, 16, dtype=torch.bool)
    masks[2, 2:6, 2:6] = masks[3, 2:6, 10:14] = masks[4, 8:12, 6:10] = True
    maps = torch.rand(5, 1, 16, 16)
    return ImageBatch(
        image=torch.rand(5, 3, 16, 16),
        image_path=["t/good/0.png", "t/good/1.png", "t/hole/0.png", "t/hole/1.png", "t/dent/0.png"],
        anomaly_map=maps,
        pred_score=torch.tensor([0.1, 0.6, 0.9, 0.2, 0.4]),
        pred_label=torch.tensor([False, True, True, False, False]),
        pred_mask=maps > 0.5,
        gt_mask=masks,
        gt_label=torch.tensor([False, False, True, True, True]),
    )


@pytest.fixture
def left_half() -> Any:
    mask = torch.zeros(16, 16)
    mask[:, :8] = 1
    return SimpleNamespace(post_processor=RegionPostProcessor(mask))


def run_test(evaluator: DecisionEvaluator, model: Any, *batches: ImageBatch) -> dict[str, float]:
    logged: dict[str, Any] = {}
    evaluator.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign, assignment]
    for batch in batches:
        evaluator.on_test_batch_end(None, model, None, batch, 0)  # type: ignore[arg-type]
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision)
    evaluator.on_test_epoch_end(SimpleNamespace(barebones=False, strategy=strategy), model)  # type: ignore[arg-type]
    return {name: float(value if isinstance(value, float) else value.compute()) for name, value in logged.items()}


def test_pixels_outside_belong_to_no_metric(left_half: Any) -> None:
    batch = labelled_batch()
    found = run_test(DecisionEvaluator(), left_half, batch, batch)
    truth, maps = batch.gt_mask[..., :8].flatten(), batch.anomaly_map[..., :8].flatten()
    assert found["pixel_AUROC"] == pytest.approx(roc_auc_score(truth, maps), abs=1e-6)
    assert found["pixel_F1Score"] == pytest.approx(f1_score(truth, maps > 0.5), abs=1e-6)
    labels = torch.tensor([0, 0, 1, 0, 1])  # the fourth defect lies outside
    assert found["image_AUROC"] == pytest.approx(roc_auc_score(labels, batch.pred_score))
    assert found["false_alarm_rate"] == pytest.approx(1 / 3)
    assert found["detection_rate"] == 0.5
    assert batch.gt_label.sum() == 3, "the batch itself stays as it is"


def test_without_a_region_all_pixels_count() -> None:
    batch = labelled_batch()
    for model in (SimpleNamespace(post_processor=RegionPostProcessor()), SimpleNamespace(post_processor=None)):
        found = run_test(DecisionEvaluator(), model, batch)
        assert found["pixel_AUROC"] == pytest.approx(
            roc_auc_score(batch.gt_mask.flatten(), batch.anomaly_map.flatten()), abs=1e-6
        )
        assert found["detection_rate"] == pytest.approx(1 / 3)


def test_metrics_of_whole_maps_and_of_sizes_take_the_limited_batch(left_half: Any) -> None:
    metrics = [AUPRO(fields=["anomaly_map", "gt_mask"]), SizeSplitAUROC("middle")]
    found = run_test(DecisionEvaluator(test_metrics=metrics), left_half, labelled_batch())
    assert 0 <= found["AUPRO"] <= 1
    assert found["image_AUROC_middle"] == 1.0  # the dent's half inside is small, so only the hole is of this size


def test_without_bad_parts_no_auroc_is_claimed(left_half: Any) -> None:
    evaluator = DecisionEvaluator()
    everything, whole = labelled_batch(), SimpleNamespace(post_processor=None)
    outside = labelled_batch()
    outside.gt_mask[2] = outside.gt_mask[3]
    outside.gt_mask[4, :, :8] = False
    with pytest.warns(UserWarning, match=r"image_AUROC, image_F1Score, pixel_AUROC, .*need images of bad parts"):
        assert run_test(evaluator, left_half, outside) == {"false_alarm_rate": 0.4}
    first = run_test(evaluator, whole, everything)
    assert first == run_test(DecisionEvaluator(), whole, everything), "nothing is left of the test before"
    with pytest.warns(UserWarning, match="left out"):
        assert set(run_test(evaluator, left_half, outside)) == {"false_alarm_rate"}, "nor of that with defects"


def test_validation_metrics_are_limited_too(left_half: Any) -> None:
    batch, evaluator = labelled_batch(), DecisionEvaluator(val_metrics=DecisionEvaluator().test_metrics[2])
    evaluator.on_validation_batch_end(None, left_half, None, batch, 0)  # type: ignore[arg-type]
    expected = roc_auc_score(batch.gt_mask[..., :8].flatten(), batch.anomaly_map[..., :8].flatten())
    assert float(evaluator.val_metrics[0].compute()) == pytest.approx(expected, abs=1e-6)


def test_rates_by_type_with_intervals() -> None:
    batch = labelled_batch()
    rates = compute_decision_rates([batch, batch])
    assert [(rate.group, rate.rejected, rate.images) for rate in rates] == [
        ("good", 2, 4),
        ("defective", 2, 6),
        ("defective: dent", 0, 2),
        ("defective: hole", 2, 4),
    ]
    for rate in rates:
        assert (rate.low, rate.high) == clopper_pearson(rate.rejected, rate.images)
    assert str(rates[0]) == "good: 2 of 4 false alarms, 50.0% (6.8% to 93.2%)"
    assert str(rates[3]) == "defective: hole: 2 of 4 detected, 50.0% (6.8% to 93.2%)"
    one_type = compute_decision_rates([SimpleNamespace(**{**vars(batch), "image_path": ["t/x/0.png"] * 5})])
    assert [rate.group for rate in one_type] == ["good", "defective"]


def test_predictions_without_labels_are_refused() -> None:
    batch = labelled_batch()
    batch.gt_label = None
    with pytest.raises(ValueError, match=r"no true labels \(gt_label\)"):
        compute_decision_rates([batch])
    with pytest.raises(ValueError, match="no predictions to count"):
        compute_decision_rates([])
