"""Otsu's threshold against OpenCV, and the choice of the foreground side."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomalib_plus.transforms.foreground import otsu_foreground, otsu_thresholds
from anomalib_plus.transforms.histogram import _count_by_bincount, _count_by_scatter, byte_histograms

FRAME_SIZE = 256


def as_rgb(grey: np.ndarray) -> Tensor:
    """(1, 3, H, W) in [0, 1] from 8-bit greys."""
    return torch.from_numpy(grey.copy()).float().div(255).expand(1, 3, -1, -1)


def disc(inside: int, outside: int, radius: float = 80) -> tuple[np.ndarray, np.ndarray]:
    """A disc in the middle of a 256 x 256 image, and its mask."""
    y, x = np.mgrid[:FRAME_SIZE, :FRAME_SIZE] - FRAME_SIZE / 2 + 0.5
    mask = y**2 + x**2 <= radius**2
    return np.where(mask, inside, outside).astype(np.uint8), mask


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["uniform", "two humps", "few values", "beta"]),
    height=st.integers(2, 80),
    width=st.integers(2, 80),
)
def test_threshold_is_opencv_s(seed: int, kind: str, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    size = (height, width)
    if kind == "uniform":
        image = rng.integers(0, 256, size)
    elif kind == "two humps":
        image = np.where(rng.random(size) < rng.random(), rng.normal(70, 15, size), rng.normal(180, 20, size))
    elif kind == "few values":
        image = rng.choice(rng.integers(0, 256, 3), size)
    else:
        image = 255 * rng.beta(rng.uniform(0.3, 4), rng.uniform(0.3, 4), size)
    image = image.clip(0, 255).astype(np.uint8)
    expected, binary = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    threshold = otsu_thresholds(byte_histograms(torch.from_numpy(image)))
    assert threshold.item() == expected
    bright = otsu_foreground(as_rgb(image), "bright")[0, 0].numpy()
    share = (binary > 0).mean()
    if 0.01 <= share <= 0.99:
        np.testing.assert_array_equal(bright, binary > 0)
    else:
        assert bright.all()


def test_sixty_percent_dark_forty_percent_bright() -> None:
    image = np.full((10, 10), 50, np.uint8)
    image[:4] = 200
    assert otsu_thresholds(byte_histograms(torch.from_numpy(image))).item() == 50
    np.testing.assert_array_equal(otsu_foreground(as_rgb(image), "bright")[0, 0].numpy(), image == 200)
    np.testing.assert_array_equal(otsu_foreground(as_rgb(image), "dark")[0, 0].numpy(), image == 50)


@pytest.mark.parametrize(("inside", "outside"), [(200, 40), (40, 200)])
def test_auto_polarity_finds_the_disc(inside: int, outside: int) -> None:
    image, mask = disc(inside, outside)
    found = otsu_foreground(as_rgb(image))[0, 0].numpy()
    np.testing.assert_array_equal(found, mask)
    assert found.mean() == pytest.approx(0.30623, abs=1e-3)


def test_auto_polarity_finds_a_band_that_touches_the_border() -> None:
    image = np.full((FRAME_SIZE, FRAME_SIZE), 220, np.uint8)
    image[:, 58 : 58 + 139] = 30
    np.testing.assert_array_equal(otsu_foreground(as_rgb(image))[0, 0].numpy(), image == 30)


def test_frame_is_two_percent_of_the_shorter_side() -> None:
    """At 100 x 300 the frame is 2 pixels: a bright ring of 2 is the background, a ring of 1 is in the minority."""
    for thickness, ring_is_background in ((2, True), (1, False)):
        image = np.full((100, 300), 20, np.uint8)
        inner = np.s_[thickness : 100 - thickness, thickness : 300 - thickness]
        ring = np.ones(image.shape, bool)
        ring[inner] = False
        image[ring] = 240
        # a ring of one pixel holds just over half of a two-pixel frame, so darken one of its sides
        if thickness == 1:
            image[0] = 20
            ring[0] = False
        np.testing.assert_array_equal(
            otsu_foreground(as_rgb(image))[0, 0].numpy(), ~ring if ring_is_background else ring
        )


@pytest.mark.parametrize("share", [0.005, 0.995])
def test_useless_foreground_becomes_everything(share: float) -> None:
    image = np.full((100, 100), 30, np.uint8)
    image[20:].flat[: int(share * 10000)] = 200
    image[:20].flat[: max(0, int(share * 10000) - 8000)] = 200
    assert otsu_foreground(as_rgb(image), "bright").all()


def test_constant_images_are_all_foreground() -> None:
    for value in (0, 77, 255):
        assert otsu_foreground(as_rgb(np.full((40, 40), value, np.uint8))).all()


def test_images_of_a_batch_do_not_mix() -> None:
    images = torch.cat([as_rgb(disc(200, 40)[0]), as_rgb(disc(40, 200)[0]), as_rgb(disc(90, 100, 50)[0])])
    together = otsu_foreground(images)
    assert together.shape == (3, 1, FRAME_SIZE, FRAME_SIZE)
    assert together.dtype == torch.bool
    for image, mask in zip(images, together, strict=True):
        torch.testing.assert_close(otsu_foreground(image[None])[0], mask)


def test_grey_is_the_luma_of_the_colours() -> None:
    """Red and blue differ by their luma alone (76 and 29), green is the brightest (150)."""
    image = torch.zeros(1, 3, 30, 30)
    image[:, 0, :, :10], image[:, 1, :, 10:20], image[:, 2, :, 20:] = 1, 1, 1
    bright = otsu_foreground(image, "bright")[0, 0]
    assert bright[:, 10:20].all()
    assert not bright[:, 20:].any()


def test_half_precision_finds_the_same_disc() -> None:
    image, mask = disc(180, 60)
    np.testing.assert_array_equal(otsu_foreground(as_rgb(image).half())[0, 0].numpy(), mask)


def test_both_ways_to_count_agree_with_numpy() -> None:
    planes = torch.randint(0, 256, (5, 700), dtype=torch.uint8)
    expected = np.stack([np.bincount(plane, minlength=256) for plane in planes.numpy()])
    for count in (_count_by_bincount, _count_by_scatter):
        np.testing.assert_array_equal(count(planes).numpy(), expected)
