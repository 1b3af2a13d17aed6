import numpy as np
import pytest
import torch
from anomalib.metrics.aupro import _AUPRO
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomalib_plus.benchmark import ranking


def scored(rng, size, ties=False):
    labels = rng.random(size) < 0.2
    scores = 50 * rng.normal(size=size) + 40 * labels - 300  # far outside [0, 1]
    return (np.round(scores / 25) * 25 if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_metrics_equal_scikit_learn_on_raw_scores(ties, kind):
    scores, labels = scored(np.random.default_rng(1), 5000, ties)
    scores = scores.astype(kind)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    curve = ranking.roc_curve(scores, labels)
    found = [ranking.area_under(curve), ranking.average_precision(scores, labels), ranking.f1_max(scores, labels)]
    expected = [roc_auc_score(labels, scores), average_precision_score(labels, scores), f1]
    assert found == pytest.approx(expected, abs=1e-12)


def test_nothing_but_the_order_counts():
    scores, labels = scored(np.random.default_rng(2), 500)
    for changed in (1000 * scores, np.exp(scores / 400), scores + 7):
        assert ranking.area_under(ranking.roc_curve(changed, labels)) == pytest.approx(roc_auc_score(labels, scores))


def test_one_class_has_no_curve():
    assert ranking.roc_curve(np.arange(4.0), np.zeros(4, bool)) is None
    assert ranking.roc_curve(np.arange(4.0), np.ones(4, bool)) is None
    assert ranking.per_region_overlap(np.zeros((2, 8, 8)), np.zeros((2, 8, 8), bool)) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(bad):
    with pytest.raises(ValueError, match="1 of 3 scores"):
        ranking.check_finite(np.array([0.0, bad, 1.0]))


def maps_with_defects(rng, raw):
    masks = np.zeros((4, 48, 48), bool)
    masks[0, 5:15, 8:20] = masks[0, 30:33, 30:33] = masks[1, 20:40, 3:9] = True
    masks[1, 40, 9] = True  # touches the defect above at a corner: the same region
    maps = rng.random(masks.shape) + 0.5 * masks
    maps[0, 30:33, 30:33] -= 0.4  # the small defect is hard to see
    return (70 * maps - 20 if raw else maps / 2).astype(np.float32), masks


def brute_force_pro(maps, masks, limit):
    """Per-region overlap at every threshold, one after the other."""
    from scipy.ndimage import label

    regions = [
        (i, numbered == n)
        for i, (numbered, count) in enumerate(label(mask, np.ones((3, 3))) for mask in masks)
        for n in range(1, count + 1)
    ]
    points = []
    for threshold in np.unique(maps):
        found = maps >= threshold
        points.append((found[~masks].mean(), np.mean([found[i][region].mean() for i, region in regions])))
    x, y = np.array(sorted([*points, (0.0, 0.0)])).T
    fine = np.union1d(x[x <= limit], [limit])
    return np.trapezoid(np.interp(fine, x, y), fine) / limit


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("limit", [0.3, 0.05])
def test_aupro_equals_a_brute_force_one_and_that_of_anomalib(raw, limit):
    maps, masks = maps_with_defects(np.random.default_rng(3), raw)
    found = ranking.area_under(ranking.per_region_overlap(maps, masks), limit)
    assert found == pytest.approx(brute_force_pro(maps, masks, limit), abs=1e-3)
    if not raw:  # anomalib's needs scores in [0, 1]
        metric = _AUPRO(fpr_limit=limit)
        metric.update(torch.tensor(maps), torch.tensor(masks))
        assert found == pytest.approx(float(metric.compute()), abs=1e-3)


def test_perfect_maps_have_aupro_1_and_constant_ones_half_the_limit():
    _, masks = maps_with_defects(np.random.default_rng(5), raw=False)
    perfect = ranking.per_region_overlap(masks.astype(np.float32), masks)
    constant = ranking.per_region_overlap(np.zeros(masks.shape, np.float32), masks)
    assert ranking.area_under(perfect, 0.3) == pytest.approx(1.0)
    assert ranking.area_under(constant, 0.3) == pytest.approx(0.15)


def test_a_thinned_curve_keeps_ends_and_area():
    scores, labels = scored(np.random.default_rng(6), 20000)
    curve = ranking.roc_curve(scores, labels)
    thin = ranking.thin_out(curve)
    assert len(thin["x"]) == len(thin["y"]) <= ranking.MAX_POINTS
    assert (thin["x"][0], thin["y"][0], thin["x"][-1], thin["y"][-1]) == (0, 0, 1, 1)
    assert np.trapezoid(thin["y"], thin["x"]) == pytest.approx(ranking.area_under(curve), abs=1e-3)
