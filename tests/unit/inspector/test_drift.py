"""The drift tests: how often they warn for nothing, and how soon they warn of a change."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from anomalib_plus.inspector import BundleInfo
from anomalib_plus.inspector.drift import BrightnessTest, Drift, DriftTest

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(0.3, 0.05, count)


def few_values(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.binomial(6, 0.3, count) / 10


def first_warning(
    parts: np.ndarray, good: np.ndarray, rate: float = 0.05, level: float = 0.01, period: int = 20_000
) -> int | None:
    """Number of the part at which the test warns, with the threshold of a false-alarm rate."""
    rank = math.ceil((len(good) + 1) * (1 - rate) - 1e-9)
    threshold = np.sort(good)[rank - 1] if rank <= len(good) else math.inf
    test = DriftTest(good.tolist(), threshold, level, period=period)
    return next((number for number, part in enumerate(parts) if part <= threshold and test.add(part)), None)


def false_warnings(draw: Draw, runs: int, parts: int, level: float, period: int, images: int) -> int:
    count = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        good = draw(rng, images)
        count += first_warning(draw(rng, parts), good, level=level, period=period) is not None
    return count


@pytest.mark.parametrize(("draw", "images"), [(normal, 20), (normal, 200), (few_values, 30)])
def test_good_parts_rarely_cause_a_warning(draw: Draw, images: int) -> None:
    """At a level of 0.2, more than 14 warnings in 40 runs would have a probability below 0.01."""
    assert false_warnings(draw, runs=40, parts=500, level=0.2, period=500, images=images) <= 14


def test_the_level_is_used_up_not_wasted() -> None:
    """The bound is not reached by a test that never warns."""
    assert false_warnings(normal, runs=60, parts=300, level=0.5, period=300, images=50) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "images"), [(normal, 20), (normal, 100), (few_values, 100)])
def test_ten_thousand_good_parts_rarely_cause_a_warning(draw: Draw, images: int) -> None:
    """More than 6 warnings in 200 runs would have a probability of 0.0005 at the level of 0.01."""
    assert false_warnings(draw, runs=200, parts=10_000, level=0.01, period=20_000, images=images) <= 6


CHANGES = {
    "rise": lambda scores: scores + 0.06,
    "fall": lambda scores: scores - 0.1,
    "spread": lambda scores: 0.3 + 2.5 * (scores - 0.3),
    "gather": lambda scores: 0.3 + 0.2 * (scores - 0.3),
    "stand still": lambda scores: np.full_like(scores, 0.31),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("start", [0, 2000])
def test_a_change_causes_a_warning_soon(change: str, start: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        good = normal(rng, 100)
        parts = normal(rng, start + 200)
        parts[start:] = CHANGES[change](parts[start:])
        warned = first_warning(parts, good, rate=0.01)
        assert warned is not None
        assert start <= warned < start + 110


def test_a_slow_change_causes_a_warning() -> None:
    rng = np.random.default_rng(0)
    good, parts = normal(rng, 100), normal(rng, 3000)
    warned = first_warning(parts + np.linspace(0, 0.1, 3000), good)
    assert warned is not None
    assert warned > 100


def test_a_smaller_level_needs_more_evidence() -> None:
    rng = np.random.default_rng(0)
    good, parts = normal(rng, 100), normal(rng, 200) - 0.05
    warned = [first_warning(parts, good, level=level) for level in (0.3, 0.01, 1e-5)]
    assert warned == sorted(set(warned)), "each later than the one before"


def test_scores_that_are_all_equal_are_no_change() -> None:
    test = DriftTest([0.1] * 30, 0.5)
    assert not any(test.add(0.1) for _ in range(300))


def test_it_warns_once_and_repeats_exactly() -> None:
    rng = np.random.default_rng(0)
    good, parts = few_values(rng, 100), few_values(rng, 100) + 0.2
    warnings = [test.add(part) for test in [DriftTest(good.tolist(), 2.0)] for part in parts]
    assert sum(warnings) == 1
    again = DriftTest([float(np.float32(score)) for score in good], 2.0)
    assert [again.add(float(str(np.float32(part)))) for part in parts] == warnings, "ties in single precision"
    assert again.warned


def test_a_period_begins_anew() -> None:
    """What is new at its end is compared with the calibration images alone afterwards."""
    rng = np.random.default_rng(0)
    good = normal(rng, 200)
    test = DriftTest(good.tolist(), 1.0, period=100)
    assert not any(test.add(score) for score in normal(rng, 100))
    assert len(test._scores) == 300
    test.add(0.3)
    assert len(test._scores) == 201


def test_the_score_that_set_the_threshold_is_no_sample() -> None:
    assert DriftTest([0.1, 0.4999999, 0.5, 0.7], 0.5)._scores == [float(np.float32(0.1))]


def test_many_scores_at_the_threshold_are_no_change() -> None:
    test = DriftTest([0.1, 0.5] * 100, 0.5)
    assert not any(test.add(score) for score in [0.1, 0.5] * 200)


def first_brightness_warning(parts: np.ndarray, good: np.ndarray) -> int | None:
    test = BrightnessTest(good.tolist(), len(good))
    return next((number for number, part in enumerate(parts) if test.add(part)), None)


@pytest.mark.parametrize("images", [8, 20, 100])
def test_parts_in_the_same_light_cause_no_warning(images: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        good, parts = rng.normal(150, 5, images), rng.normal(150, 5, 2000)
        assert first_brightness_warning(parts, good) is None


def test_light_that_changes_from_series_to_series_rarely_causes_a_warning() -> None:
    """Each of five series has a light of its own, of the distribution of a hundred calibration images."""
    warned = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        light = np.repeat(rng.normal(150, 5, 5), 100)
        warned += first_brightness_warning(light, rng.normal(150, 5, 100)) is not None
    assert warned <= 9


def test_a_change_that_cannot_be_seen_is_none() -> None:
    good = np.full(50, 120.0)
    assert first_brightness_warning(np.full(100, 119.01), good) is None
    assert first_brightness_warning(np.full(100, 118.99), good) == 19


def test_several_images_of_a_part_count_once() -> None:
    """The range of four parts, 100 to 110, is extended by half of it at both ends; that of forty by one grey level."""
    good = [100.0, 110.0] * 20
    for parts, warns in ((4, False), (40, True)):
        test = BrightnessTest(good, parts)
        assert any(test.add(96.0) for _ in range(20)) == warns


@pytest.mark.parametrize(("change", "word"), [(-14.0, "darker"), (14.0, "brighter")])
@pytest.mark.parametrize("start", [0, 500])
def test_other_light_causes_one_warning_within_twenty_parts(change: float, word: str, start: int) -> None:
    rng = np.random.default_rng(0)
    good, parts = rng.normal(184, 3, 80), rng.normal(184, 3, start + 100)
    parts[start:] += change
    test = BrightnessTest(good.tolist(), 80)
    warnings = [test.add(part) for part in parts]
    (number,) = (number for number, warning in enumerate(warnings) if warning)
    assert max(start, 19) <= number < start + 20
    median = np.median(parts[number - 19 : number + 1])
    assert f"have become {word}: " in warnings[number]
    assert f"brightness is {median:.1f} of 255, of the calibration images {np.median(good):.1f}, " in warnings[number]


def test_only_accepted_parts_of_the_bundle_are_compared() -> None:
    info = BundleInfo("Tiny", "onnx", (32, 32), [0.1] * 20, calibration_brightness=[100 + n for n in range(20)])
    row = {"bundle": info.identity, "decision": "accept", "score": "0.1", "brightness": "90.0"}
    changes = ({"decision": "reject"}, {"decision": "unreadable", "score": "", "brightness": ""}, {"bundle": "other"})
    for change in changes:
        drift = Drift(info)
        assert not any(drift.add(row | change) for _ in range(100))
    found = [warning for _ in range(100) if (warning := drift.add(row))]
    assert found == drift.warnings
    assert len(found) == 1
    assert "darker" in found[0]
    without = Drift(BundleInfo("Tiny", "onnx", (32, 32), [0.1] * 20))
    assert not any(without.add(row) for _ in range(100)), "a bundle that does not hold the brightness"
