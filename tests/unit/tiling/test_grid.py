"""The tiles cover every pixel, end inside the image, and their weights add up to one."""

import numpy as np
import pytest

from anomalib_plus.tiling.grid import blend_weights, tile_starts


def check(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - tile
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(1, tile * (1 - overlap) + 1e-6)).all()
    weights = blend_weights(length, starts, tile)
    assert (weights > 0).all()
    total = np.zeros(length)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + tile] += row
    np.testing.assert_allclose(total, 1, atol=1e-12)


def check_random_sizes(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        tile = int(rng.integers(1, 200))
        check(tile + int(rng.integers(0, 600)), tile, float(rng.choice([0, 0.1, 0.25, 0.5, 0.9, rng.uniform(0, 1)])))


def test_every_pixel_is_covered_with_weights_that_add_up_to_one() -> None:
    check_random_sizes(100, seed=0)


@pytest.mark.slow
def test_every_pixel_is_covered_at_thousands_of_sizes() -> None:
    check_random_sizes(5000, seed=1)


def test_the_last_tile_moves_inward() -> None:
    assert tile_starts(1024, 256, 0.25) == [0, 192, 384, 576, 768]
    assert tile_starts(768, 256, 0.25) == [0, 192, 384, 512]
    assert tile_starts(256, 256, 0.25) == [0]


def test_rounding_makes_no_further_tile() -> None:
    assert 10 * (1 - 0.8) < 2
    assert tile_starts(14, 10, 0.8) == [0, 2, 4]


def test_a_side_shorter_than_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="side of 255 pixels is shorter than a tile of 256"):
        tile_starts(255, 256, 0.25)
