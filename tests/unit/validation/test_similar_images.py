"""Pairs of thumbnails that show the same part."""

import numpy as np
import pytest

from anomalib_plus.validation import similar_images
from anomalib_plus.validation.similar_images import components, similar_pairs

RNG = np.random.default_rng(0)
COMMON = 200 * RNG.random((32, 32))
PARTS = COMMON + 20 * RNG.random((40, 32, 32))
"""Parts that have most of their details in common."""


def with_copy(number, change):
    return np.concatenate([PARTS, change(PARTS[number])[None]]).round().astype(np.int16)


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part + RNG.normal(0, 1, part.shape),
        lambda part: 0.5 * part + 40,
        lambda part: part + np.linspace(0, 100, 32)[:, None],
    ],
    ids=["noise", "light", "gradient"],
)
def test_the_same_part_is_found_and_no_other(change):
    assert similar_pairs(with_copy(4, change), 4) == [(4, 40)]


@pytest.mark.parametrize(("shift", "is_found"), [((2, -1), True), ((6, 0), False)])
def test_a_small_shift_does_not_hide_the_part(shift, is_found):
    parts = (200 * RNG.random((20, 32, 32))).round().astype(np.int16)
    parts[7] = np.roll(parts[4], shift, axis=(0, 1))
    assert similar_pairs(parts, 4) == ([(4, 7)] if is_found else [])


def test_the_limit_rises_until_no_group_is_too_large():
    """Eight images of a part, correlated by about 0.83, of which two by 0.98."""
    own = RNG.normal(0, 10, (32, 32))
    alike = COMMON + own + RNG.normal(0, 4.5, (8, 32, 32))
    alike[1] = alike[0] + RNG.normal(0, 2, (32, 32))
    images = np.concatenate([PARTS, alike]).round().astype(np.int16)
    assert np.bincount(components(48, similar_pairs(images, 8))).max() == 8
    assert similar_pairs(images, 7) == [(40, 41)]
    assert similar_pairs(images, 1) == []


def test_blocks_give_the_same(monkeypatch):
    images = np.repeat(PARTS, 2, axis=0).round().astype(np.int16)
    images[::2] += RNG.integers(-1, 2, images[::2].shape, dtype=np.int16)
    expected = similar_pairs(images, 4)
    assert len(expected) == 40
    monkeypatch.setattr(similar_images, "_BLOCK", 7)
    assert similar_pairs(images, 4) == expected


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_flat_images_are_not_compared(count):
    assert similar_pairs(np.full((count, 32, 32), 7, np.int16), 4) == []
