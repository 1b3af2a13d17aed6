"""A backend whose scores are no numbers must not look like one that agrees."""

import numpy as np
import pytest

from anomalib_plus.benchmark.exports.agreement import Judgement, differences, judge_all

IMAGES = [np.zeros((1, 3, 4, 4), np.float32)] * 3


@pytest.mark.parametrize("name", ["pred_score", "anomaly_map"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_verdict_that_is_no_number_is_an_error(name: str, value: float) -> None:
    verdicts = [{"pred_score": np.zeros(1), "anomaly_map": np.zeros((1, 1, 4, 4))} for _ in IMAGES]
    verdicts[1][name].flat[0] = value
    waiting = iter(verdicts)
    with pytest.raises(FloatingPointError, match=rf"{name} is NaN or infinite for 1 of 3 images"):
        judge_all(lambda _: next(waiting), IMAGES)


def test_differences_do_not_hide_what_is_no_number() -> None:
    maps = [np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32)]
    zeros = Judgement(np.zeros(2, np.float32), None, [maps[0], maps[0]])
    assert np.isnan(differences(zeros._replace(maps=maps), zeros)["map_difference"])
    assert differences(zeros, zeros)["map_difference"] == 0
