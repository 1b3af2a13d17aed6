"""Thresholds and p-values of split conformal prediction, by simulation and by hand."""

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from anomalib_plus.post_processing.conformal_math import (
    clopper_pearson,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    images_needed,
    p_values,
    rounded_up,
    smallest_rate,
)

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
REDRAWS = 1000
NEW = 200
DRAWS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_cauchy(shape),
    "many ties": lambda rng, shape: rng.integers(0, 4, shape).astype(float),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("n", "rate"), [(9, 0.1), (19, 0.1), (50, 0.05), (99, 0.01), (200, 0.02), (30, 0.3)])
def test_the_false_alarm_rate_is_kept(draw: str, n: int, rate: float) -> None:
    rng = np.random.default_rng(n)
    calibration, new = DRAWS[draw](rng, (REDRAWS, n)), DRAWS[draw](rng, (REDRAWS, NEW))
    thresholds = np.array([conformal_threshold(scores, rate) for scores in calibration])
    rates = (new > thresholds[:, None]).mean(1)
    error = rates.std() / math.sqrt(REDRAWS)
    assert rates.mean() <= rate + 3 * error
    if draw != "many ties":  # and it is not kept by a threshold that is much too high
        assert rates.mean() >= (n + 1 - conformal_rank(n, rate)) / (n + 1) - 3 * error
    ps = np.stack([p_values(row, scores) for row, scores in zip(new, calibration, strict=True)])
    assert (ps <= rate).mean() <= rate + 3 * error
    assert ((new > thresholds[:, None]) <= (ps <= rate)).all(), "what is rejected has a p-value of at most the rate"


@pytest.mark.parametrize(
    ("count", "rate"), [(9, 0.1), (9, 0.3), (20, 0.05), (20, 0.1), (20, 0.3), (40, 0.025), (40, 0.05), (40, 0.2)]
)
def test_the_false_alarm_rate_of_new_parts_is_kept_with_several_images_of_a_part(count: int, rate: float) -> None:
    """Parts differ more than images of one part, and some have many; a small rate is exceeded without ``parts``."""
    rng = np.random.default_rng(count)
    rates, pooled_rates, small_ps = [], [], []
    for _ in range(REDRAWS):
        parts = np.repeat(np.arange(count), rng.choice([1, 2, 12], count, p=[0.4, 0.4, 0.2]))
        scores = rng.normal(size=count)[parts] + rng.normal(0, 0.3, len(parts))
        order = rng.permutation(len(parts))
        scores, parts = scores[order], parts[order]
        new = rng.normal(0, math.hypot(1, 0.3), NEW)
        rejected = new > conformal_threshold(scores, rate, parts)
        small = p_values(new, scores, parts) <= rate * (1 + 1e-9)
        assert (rejected <= small).all(), "what is rejected has a p-value of at most the rate"
        rates.append(rejected.mean())
        small_ps.append(small.mean())
        pooled_rates.append((new > conformal_threshold(scores, rate)).mean())
    error, pooled_error = (3 * np.std(found) / math.sqrt(REDRAWS) for found in (rates, pooled_rates))
    assert rate - 1 / (count + 1) - error <= np.mean(rates) <= rate + error
    assert np.mean(small_ps) <= rate + error
    assert np.mean(pooled_rates) > rate + pooled_error or rate > 0.1


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_the_rate_is_kept_where_images_that_look_alike_are_taken_for_one_part(rate: float) -> None:
    """One in seven images shows a look whose scores are high; these are no part."""
    rng = np.random.default_rng(0)
    rates, small_ps = [], []
    for _ in range(REDRAWS):
        (look, scores), (new_look, new) = ((rng.random(n) < 0.15, rng.normal(size=n)) for n in (128, NEW))
        scores, new = scores + 3 * look, new + 3 * new_look
        parts = np.where(look, -1, np.arange(128))
        rates.append((new > conformal_threshold(scores, rate, parts)).mean())
        small_ps.append((p_values(new, scores, parts) <= rate).mean())
    error = 3 * np.std(rates) / math.sqrt(REDRAWS)
    assert np.mean(rates) <= rate + error
    assert np.mean(small_ps) <= rate + error


def test_an_image_for_each_part_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    for n in range(1, 200, 3):
        scores, rate = rng.integers(0, n, n) / 7, rng.integers(1, 999) / 1000
        for parts in (None, rng.permutation(n), rng.permutation(n).astype(str)):
            assert conformal_threshold(scores, rate, parts) == np.sort(scores)[conformal_rank(n, rate) - 1]
            counts = (scores[:, None] >= scores).sum(0)
            assert p_values(scores, scores, parts).tolist() == ((1 + counts) / (n + 1)).tolist()


def test_parts_by_hand() -> None:
    """Three images of one part weigh a third each, that of the other part weighs one."""
    scores, parts = [3.0, 1.0, 4.0, 2.0], ["a", "a", "b", "a"]
    found = [conformal_threshold(scores, rate, parts) for rate in (0.3, 0.34, 0.6, 2 / 3, 0.75, 0.9)]
    assert found == [4.0, 4.0, 4.0, 3.0, 3.0, 1.0]
    expected = [1, 1, (1 + 5 / 3) / 3, (1 + 4 / 3) / 3, 2 / 3, 1 / 3, 1 / 3]
    assert p_values([0, 1, 2, 3, 4, 5, math.nan], scores, parts) == pytest.approx(expected)
    rounded = [p_values(0.0, np.ones(30 * size), np.repeat(np.arange(30), size)) for size in range(1, 60)]
    assert rounded == pytest.approx([1.0] * 59)
    assert max(rounded) == 1.0, "not more, by rounding"
    thirds = np.repeat(np.arange(30), 3)
    assert conformal_threshold(np.arange(90), 1 / 31, thirds) == 89.0
    assert conformal_threshold(np.arange(90), 2 / 31, thirds) == 86.0


@pytest.mark.parametrize(("n", "rate"), [(20, 0.1), (99, 0.01), (200, 0.02)])
def test_the_bound_holds_for_most_calibration_sets(n: int, rate: float) -> None:
    """Uniform scores, whose false-alarm rate is one minus the threshold."""
    scores = np.random.default_rng(n).random((4000, n))
    rates = 1 - np.array([conformal_threshold(row, rate) for row in scores])
    held = (rates <= false_alarm_bound(n, conformal_rank(n, rate), 0.9)).mean()
    assert held == pytest.approx(0.9, abs=3 * math.sqrt(0.9 * 0.1 / 4000))


def test_too_few_images_give_the_largest_score() -> None:
    scores = [3.0, 1.0, 2.0]
    assert conformal_threshold(scores, 0.01) == 3.0
    assert conformal_threshold(scores, 0.25) == 3.0
    assert conformal_threshold(scores, 0.5) == 2.0
    assert smallest_rate(3) == 0.25


@pytest.mark.parametrize(("rate", "needed"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.02, 49), (1 / 49, 48), (0.01, 99)])
def test_images_needed(rate: float, needed: int) -> None:
    assert images_needed(rate) == needed
    assert conformal_rank(needed, rate) == needed
    assert smallest_rate(needed) <= rate * (1 + 1e-12)
    assert needed == 1 or smallest_rate(needed - 1) > rate


def test_a_rate_is_rounded_to_one_that_can_be_kept() -> None:
    for n in range(1, 2000):
        shown = float(f"{rounded_up(smallest_rate(n)):.3g}")
        assert images_needed(shown) <= n
        assert shown == pytest.approx(smallest_rate(n), rel=0.01)
    assert rounded_up(smallest_rate(99)) == pytest.approx(0.01)


def test_rounding_adds_no_rank() -> None:
    assert 1 / (1 / 49) > 49
    assert 125 * (1 - 0.176) > 103
    assert conformal_rank(124, 0.176) == 103


def test_p_values_by_hand() -> None:
    found = p_values([[0.0, 2.0], [2.5, 9.0]], [1.0, 2.0, 2.0, 3.0])
    assert found.tolist() == [[1.0, 0.8], [0.4, 0.2]]
    assert p_values(math.nan, [1.0, 2.0, 3.0]) == 0.25


def test_clopper_pearson_is_that_of_the_literature() -> None:
    low, high = clopper_pearson(4, 20)
    assert (low, high) == pytest.approx((0.0573, 0.4366), abs=1e-4)  # Agresti and Coull's example
    assert clopper_pearson(0, 20)[1] == pytest.approx(1 - 0.025 ** (1 / 20))
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert false_alarm_bound(59, 59, 0.95) == pytest.approx(0.05, abs=1e-3)  # 59 parts for 95 % at 95 %
    assert false_alarm_bound(40, 38, 0.95) == pytest.approx(clopper_pearson(2, 40, 0.9)[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal_threshold([], 0.1), "at least one good image, got 0"),
        (lambda: conformal_threshold([1.0, math.nan, math.inf], 0.1), "2 of 3 scores of good images are NaN or inf"),
        (lambda: conformal_threshold([1.0], 0.0), "between 0 and 1, got 0.0"),
        (lambda: conformal_threshold([1.0], 1.0), "between 0 and 1, got 1.0"),
        (lambda: p_values([1.0], []), "at least one good image"),
        (lambda: p_values([1.0], [1.0], [0, 1]), "one part for each score, got 2 for 1 score"),
        (lambda: clopper_pearson(3, 2), "between 0 and the number of trials 2, got 3"),
        (lambda: clopper_pearson(1, 2, 1.0), "confidence must be between 0 and 1"),
    ],
)
def test_wrong_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_it_loads_neither_torch_nor_anomalib() -> None:
    code = (
        "import sys, anomalib_plus.post_processing.conformal_math; "
        "print([name for name in ('torch', 'anomalib', 'lightning') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
