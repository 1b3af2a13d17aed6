"""Comparison of candidates: AUROC, its spread, and what counts as level."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_plus.inspector.building.ranking import auroc, choose, compare, draw_weights

LABELS = np.array([0, 1] * 20, bool)
SOURCES = [str(index // 2) for index in range(40)]
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=40)


def ranked(scores, efforts=None, aupros=None):
    same = dict.fromkeys(scores, 1.0)
    return compare(scores, LABELS, SOURCES, aupros or dict.fromkeys(scores), efforts or same, efforts or same, seed=0)


def test_auroc_is_that_of_scikit_learn_with_weights():
    scores = RNG.integers(0, 5, 40).astype(float)  # with ties
    weights = RNG.integers(0, 3, (4, 40)).astype(float)
    expected = [roc_auc_score(LABELS, scores, sample_weight=each) for each in weights]
    np.testing.assert_allclose(auroc(scores, LABELS, weights), expected)


def test_an_image_and_its_copy_are_drawn_together():
    weights = draw_weights(SOURCES, seed=0, draws=50)
    np.testing.assert_array_equal(weights[:, ::2], weights[:, 1::2])
    np.testing.assert_array_equal(weights.sum(axis=1), 40)
    assert (weights != 1).any()


def test_a_clear_difference_is_not_level_and_a_small_one_is():
    good = LABELS * 2.0 + NOISE
    almost = good.copy()
    order = np.argsort(good)
    first = next(n for n in range(39) if LABELS[order[n + 1]] and not LABELS[order[n]])
    almost[order[first : first + 2]] = good[order[first : first + 2]][::-1]  # one pair of 400 in the wrong order
    bad = LABELS * 0.3 + NOISE
    found = {score.label: score for score in ranked({"good": good, "almost": almost, "bad": bad})}
    assert found["good"].is_level
    assert found["almost"].is_level
    assert not found["bad"].is_level
    assert found["bad"].high < found["good"].auroc
    assert found["good"].low < found["good"].auroc < found["good"].high


def test_of_level_candidates_the_fastest_is_chosen():
    scores = {"slow": LABELS * 5.0 + NOISE, "fast": LABELS * 5.0 + NOISE, "bad": NOISE}
    order, reason = choose(ranked(scores, {"slow": 9.0, "fast": 2.0, "bad": 1.0}), None)
    assert [score.label for score in order] == ["fast", "slow", "bad"]
    assert "slow is level within the spread; fast is the fastest" in reason


def test_a_result_that_may_be_chance_is_called_so():
    for scores, is_chance in ((-NOISE, True), (LABELS * 3.0 + NOISE, False)):
        reason = choose(ranked({"Only": scores}), None)[1]
        assert ("which may be chance" in reason) == is_chance


def test_candidates_are_ranked_by_the_mean_of_image_auroc_and_aupro():
    scores = {"a": LABELS * 5.0 + NOISE, "b": LABELS * 1.5 + NOISE}
    found = ranked(scores, aupros={"a": 0.5, "b": 0.9})
    assert [score.label for score in found] == ["b", "a"]
    assert found[0].quality == pytest.approx((found[0].auroc + 0.9) / 2)
    assert found[0].auroc < found[1].auroc
    assert not found[1].is_level
    without = ranked(scores, aupros={"a": None, "b": 0.9})
    assert [(score.label, score.quality) for score in without] == [("a", without[0].auroc), ("b", without[1].auroc)]


def test_what_exceeds_the_latency_is_taken_last():
    scores = {"slow": LABELS * 5.0 + NOISE, "fast": LABELS * 1.0 + NOISE}
    order, reason = choose(ranked(scores, {"slow": 90.0, "fast": 2.0}), 10.0)
    assert [score.label for score in order] == ["fast", "slow"]
    assert "slow has 100.0 % but is too slow" in reason
    order, reason = choose(ranked(scores, {"slow": 90.0, "fast": 20.0}), 10.0)
    assert [score.label for score in order] == ["slow", "fast"]
    assert "exceeded, before export, by slow, fast" in reason


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_the_comparison_is_the_same_for_a_seed(quality):
    scores = {"a": LABELS * quality + NOISE, "b": NOISE}
    assert ranked(scores) == ranked(scores)
