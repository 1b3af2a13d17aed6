"""Seeded splits."""

import pytest

from anomalib_plus import hold_out


def test_a_share_is_held_out_the_same_way_for_a_seed() -> None:
    kept, held_out = hold_out(50, 0.2, seed=3)
    assert len(held_out) == 10
    assert sorted([*kept, *held_out]) == list(range(50))
    assert kept == sorted(kept)
    assert held_out == sorted(held_out)
    assert (kept, held_out) == hold_out(50, 0.2, seed=3)
    assert held_out != hold_out(50, 0.2, seed=4)[1]
    assert hold_out(8, 0.25, seed=0) == ([1, 2, 3, 5, 6, 7], [0, 4])  # on every machine


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_no_part_is_empty(share: float) -> None:
    assert min(map(len, hold_out(2, share, seed=0))) == 1
    assert min(map(len, hold_out(9, share, seed=0))) == 1


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole(seed: int) -> None:
    groups = [f"part {index // 4}" for index in range(40)]
    kept, held_out = hold_out(40, 0.3, seed, groups)
    assert len(held_out) == 12
    assert not {groups[index] for index in kept} & {groups[index] for index in held_out}


@pytest.mark.parametrize("seed", range(5))
def test_a_large_group_is_not_held_out_for_a_small_share(seed: int) -> None:
    groups = ["large"] * 8 + ["small", "small"]
    assert hold_out(10, 0.1, seed, groups) == (list(range(8)), [8, 9])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0.0, 0), "between 0 and 1, got 0.0"),
        ((10, 1.0, 0), "between 0 and 1, got 1.0"),
        ((1, 0.5, 0), "two items are needed to hold some out, got 1"),
        ((3, 0.5, 0, ["a"] * 3), "two groups are needed to hold some out, got 1"),
        ((3, 0.5, 0, ["a"]), "got 1 group for 3 items"),
    ],
)
def test_what_cannot_be_split(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hold_out(*arguments)
