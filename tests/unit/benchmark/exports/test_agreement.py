"""Agreement of backends; one with non-finite scores must not pass."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_plus.benchmark.exports.agreement import Predictions, compare, predict_all

IMAGES = [np.zeros((1, 3, 4, 4), np.float32)] * 3
LABELS = np.array([False, True])


@pytest.mark.parametrize("name", ["pred_score", "anomaly_map"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_prediction_is_an_error(name: str, value: float) -> None:
    outputs = [{"pred_score": np.zeros(1), "anomaly_map": np.zeros((1, 1, 4, 4))} for _ in IMAGES]
    outputs[1][name].flat[0] = value
    waiting = iter(outputs)
    with pytest.raises(FloatingPointError, match=rf"{name} is NaN or infinite for 1 of 3 images"):
        predict_all(lambda _: next(waiting), IMAGES)


def test_differences_do_not_hide_non_finite_maps() -> None:
    maps = [np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32)]
    zeros = Predictions(np.zeros(2, np.float32), None, [maps[0], maps[0]])
    assert np.isnan(compare(zeros._replace(maps=maps), zeros, LABELS)["map_difference"])
    assert compare(zeros, zeros, LABELS)["map_difference"] == 0


def test_the_image_auroc_equals_scikit_learn_and_needs_both_classes() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.random(20).round(1).astype(np.float32), np.arange(20) % 3 > 0
    given = Predictions(scores, scores > 0.5, [np.zeros((4, 4), np.float32)] * 20)
    found = compare(given, given._replace(decisions=scores > 0.7), labels)
    assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["decisions_changed"] == ((scores > 0.5) & (scores <= 0.7)).sum()
    assert compare(given, given, np.ones(20, bool))["image_auroc"] is None
