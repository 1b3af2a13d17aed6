"""Splits of the good images: disjoint, of sensible sizes, and with whole groups."""

import numpy as np
import pytest

from anomalib_plus.counts import counted
from anomalib_plus.inspector.building.splits import counts, divide
from anomalib_plus.post_processing.conformal_math import images_needed


@pytest.mark.parametrize(
    ("n", "expected"), [(20, (10, 5, 5)), (100, (60, 20, 20)), (200, (80, 40, 80)), (250, (101, 50, 99))]
)
def test_counts(n, expected):
    assert counts(n, 99) == expected


def test_from_250_images_on_one_percent_is_supported():
    assert images_needed(0.01) == 99
    supported = [n for n in range(20, 600) if counts(n, 99)[2] >= 99]
    assert supported[0] < 255
    assert supported == list(range(supported[0], 600))


@pytest.mark.parametrize("n", [20, 57, 300])
def test_every_image_is_in_one_split_and_groups_are_whole(n):
    groups = [str(index // 3) for index in range(n)]
    splits = divide(groups, 0.01, seed=1)
    parts = [splits.training, splits.selection, splits.calibration]
    assert sorted(index for part in parts for index in part) == list(range(n))
    names = [{groups[index] for index in part} for part in parts]
    assert sum(map(len, names)) == len(set(groups))
    assert splits == divide(groups, 0.01, seed=1)
    assert splits != divide(groups, 0.01, seed=2)


@pytest.mark.parametrize("largest", [2, 5])
def test_calibration_gets_as_many_parts_as_the_rate_needs_and_the_training_keeps_its_share(largest):
    sizes = np.random.default_rng(0).integers(1, largest + 1, 100)
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    for seed in range(5):
        splits = divide(groups, 0.04, seed)
        assert len({groups[index] for index in splits.calibration}) == images_needed(0.04) == 24
        most = counts(len(groups), 999)[2]
        assert len(splits.calibration) < most, "no more images than it needs"
        assert most - largest < len(divide(groups, 0.001, seed).calibration) <= most


def test_a_group_for_each_image_changes_nothing():
    for n in (20, 90, 130, 250, 300):
        _, _, calibration = counts(n, 99)
        assert len(divide([str(index) for index in range(n)], 0.01, seed=3).calibration) == calibration


@pytest.mark.parametrize("sizes", [[40], [35, 5], [36, 2, 2]])
def test_too_few_groups(sizes):
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    with pytest.raises(ValueError, match=rf"of {counted(len(sizes), 'part')}, too few .* change --group-by"):
        divide(groups, 0.01, seed=0)
