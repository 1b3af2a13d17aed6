"""Anomaly maps of a reconstruction: range, smoothing, score."""

from typing import get_args

import cv2
import pytest
import torch

from anomalib_plus.models.ramfae.anomaly_map import AnomalyMapGenerator, MapType, dissimilarity_map

MAP_TYPES = get_args(MapType)


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_maps_lie_in_unit_range_and_vanish_for_perfect_reconstructions(map_type: str) -> None:
    generator = AnomalyMapGenerator(map_type)
    images = torch.rand(2, 3, 64, 64)
    for other in (torch.rand(2, 3, 64, 64), 1 - images, torch.zeros_like(images)):
        scores, maps = generator(images, other)
        assert maps.shape == (2, 1, 64, 64)
        assert scores.shape == (2,)
        assert maps.min() >= 0
        assert maps.max() <= 1
        assert maps.std() > 0
    assert generator(images, images)[1].abs().max() < 1e-6


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_a_local_difference_peaks_where_it_is(map_type: str) -> None:
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    images = (0.5 + 0.2 * torch.sin(x / 4) * torch.sin(y / 6)).expand(1, 3, -1, -1)
    reconstruction = images.clone()
    reconstruction[..., 80:96, 30:46] = torch.rand(3, 16, 16)
    _, maps = AnomalyMapGenerator(map_type)(images, reconstruction)
    row, column = divmod(int(maps.argmax()), 128)
    assert 76 <= row < 100
    assert 26 <= column < 50


def test_gmsd_map_averages_to_the_loss() -> None:
    from anomalib_plus.models.ramfae.loss import gmsd_loss

    images, other = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(dissimilarity_map(images, other, "gmsd").mean(), gmsd_loss(images, other))


def test_ssim_map_of_black_against_white() -> None:
    black = torch.zeros(1, 3, 32, 32)
    torch.testing.assert_close(
        dissimilarity_map(black, black + 1, "ssim"), torch.full_like(black, (1 - 9.999e-5) / 2), atol=1e-5, rtol=0
    )


def test_smoothing_agrees_with_opencv_and_keeps_constants() -> None:
    """The paper's window at the paper's size."""
    generator = AnomalyMapGenerator()
    maps = torch.rand(1, 1, 256, 256)
    expected = cv2.GaussianBlur(maps[0, 0].numpy(), (21, 21), 3.5, borderType=cv2.BORDER_REFLECT_101)
    torch.testing.assert_close(generator.smooth(maps)[0, 0], torch.from_numpy(expected), atol=1e-5, rtol=0)
    constant = torch.full((1, 1, 32, 32), 0.3)
    torch.testing.assert_close(generator.smooth(constant), constant, atol=1e-6, rtol=0)


def test_smoothing_is_the_papers_share_of_the_image() -> None:
    images, other = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    expected = AnomalyMapGenerator(smoothing_kernel=11, sigma=1.75)(images, other)[1]
    assert torch.equal(AnomalyMapGenerator()(images, other)[1], expected)


@pytest.mark.parametrize("off", [{"smoothing_kernel": 0}, {"sigma": 0}])
def test_smoothing_can_be_switched_off(off: dict) -> None:
    images, other = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    _, maps = AnomalyMapGenerator("mse", **off)(images, other)
    torch.testing.assert_close(maps, (images - other).square().mean(dim=1, keepdim=True))


def test_image_score_is_the_maximum_or_the_mean_of_the_smoothed_map() -> None:
    images, other = torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)
    highest, maps = AnomalyMapGenerator(image_score="max")(images, other)
    mean, _ = AnomalyMapGenerator(image_score="mean")(images, other)
    torch.testing.assert_close(highest, maps.amax(dim=(1, 2, 3)))
    torch.testing.assert_close(mean, maps.mean(dim=(1, 2, 3)))


def test_gray_compares_the_mean_of_the_channels() -> None:
    images = torch.rand(1, 3, 32, 32)
    permuted = images[:, [2, 0, 1]]
    assert AnomalyMapGenerator("mse", channel_reduction="gray")(images, permuted)[1].max() < 1e-6
    assert AnomalyMapGenerator("mse", channel_reduction="map_mean")(images, permuted)[1].max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"map_type": "l1"}, "anomaly_map must be one of msgms, ssim, gmsd, mse, got 'l1'"),
        ({"image_score": "median"}, "image_score must be one of max, mean"),
        ({"channel_reduction": "luma"}, "channel_reduction must be one of"),
        ({"smoothing_kernel": 20}, "smoothing_kernel must be odd"),
        ({"smoothing_kernel": -3}, "smoothing_kernel must be odd and positive .*, got -3"),
        ({"gms_constant": 0.0}, "gms_constant must be positive, got 0"),
        ({"gms_constant": -1.0}, "gms_constant must be positive, got -1"),
    ],
)
def test_unknown_choices_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnomalyMapGenerator(**arguments)
