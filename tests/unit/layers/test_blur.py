"""Filters whose windows a paper gives for one size of images: the same share of images of another size."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_plus.layers.blur import GaussianBlur, mean_filter
from anomalib_plus.layers.paper_size import PaperSize, odd_pixels_at, pixels_at, whole_pixels_at


@pytest.mark.parametrize(
    ("pixels", "image_size", "length", "side"),
    [(21, 256, 256, 21), (21, 256, 128, 11), (21, 256, 64, 5), (21, 256, 512, 41), (21, 256, 8, 1), (5, 256, 256, 5)],
)
def test_windows_are_the_nearest_odd_share(pixels: int, image_size: int, length: int, side: int) -> None:
    assert odd_pixels_at(PaperSize(pixels, image_size), length) == side


def test_plain_numbers_are_taken_as_they_are() -> None:
    assert pixels_at(4.0, 128) == 4.0
    assert odd_pixels_at(21, 128) == 21
    assert whole_pixels_at(4, 8) == 4
    assert [whole_pixels_at(PaperSize(4, 64), length) for length in (64, 32, 24, 8, 1)] == [4, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("kernel", "size", "windows"),
    [
        (PaperSize(21, 256), (256, 256), (21, 21)),
        (PaperSize(21, 256), (256, 64), (21, 5)),
        (21, (48, 30), (21, 21)),
        (1, (48, 30), (1, 1)),
    ],
    ids=str,
)
def test_mean_filter_is_a_window_with_zeros_around_and_scales_along_each_axis(
    kernel: int | PaperSize, size: tuple[int, int], windows: tuple[int, int]
) -> None:
    maps = torch.rand(2, 1, *size, dtype=torch.float64)
    padding = (windows[0] // 2, windows[1] // 2)
    expected = torch.nn.functional.avg_pool2d(maps, windows, stride=1, padding=padding)
    torch.testing.assert_close(mean_filter(maps, kernel), expected)


@pytest.mark.parametrize("size", [(352, 352), (176, 88)], ids=str)
def test_gaussian_scales_along_each_axis(size: tuple[int, int]) -> None:
    maps = torch.rand(1, 1, *size)
    sigmas = [4.0 * length / 352 for length in size]
    expected = gaussian_filter(maps[0, 0].numpy(), sigmas, mode="mirror", truncate=4.0)
    scaled = GaussianBlur(PaperSize(4.0, 352))(maps)[0, 0]
    torch.testing.assert_close(scaled, torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_a_window_and_a_deviation_of_a_paper_scale_together() -> None:
    maps = torch.rand(2, 1, 128, 128)
    scaled = GaussianBlur(PaperSize(3.5, 256), PaperSize(21, 256))
    assert torch.equal(scaled(maps), GaussianBlur(1.75, 11)(maps))
    assert scaled.smallest_map == 1
    assert GaussianBlur(3.5, 21).smallest_map == 11
    assert GaussianBlur(4.0).smallest_map == 17


@pytest.mark.parametrize("blur", [GaussianBlur(0), GaussianBlur(3.5, 0), GaussianBlur(0, 201)])
def test_zero_switches_it_off(blur: GaussianBlur) -> None:
    maps = torch.rand(1, 1, 4, 4)
    assert blur(maps) is maps
    assert blur.smallest_map == 1
