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
