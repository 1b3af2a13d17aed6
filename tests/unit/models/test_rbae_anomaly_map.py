"""From the comparison of image and reconstruction to map and score."""

import kornia
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from anomalib_plus.models.rbae.anomaly_map import (
    AnomalyMapGenerator,
    feature_residual_map,
    pixel_map,
    ssim_distance_map,
    weighted_map,
)


def test_weighted_sum_of_constants() -> None:
    maps = [torch.full((2, 1, 32 >> i, 32 >> i), value) for i, value in enumerate((0.5, 0.25, 1.0))]
    torch.testing.assert_close(weighted_map(maps, (0.2, 0.2, 0.6), (32, 32)), torch.full((2, 1, 32, 32), 0.75))


def test_maps_of_other_sizes_are_resized_bilinearly() -> None:
    large, small = torch.rand(1, 1, 8, 12), torch.rand(1, 1, 4, 6)
    expected = 0.3 * large + 0.7 * F.interpolate(small, (8, 12), mode="bilinear")
    torch.testing.assert_close(weighted_map([large, small], (0.3, 0.7), (8, 12)), expected)


def test_pixel_map_is_the_mean_squared_difference_of_the_channels() -> None:
    first, second = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(pixel_map(first, second)[:, 0], ((first - second) ** 2).sum(1) / 3)


def test_ssim_map_ranks_like_one_minus_ssim() -> None:
    first, second = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    distance = (1 - kornia.metrics.ssim(first, second, 11)).mean(1, keepdim=True)
    torch.testing.assert_close(2 * ssim_distance_map(first, second), distance)
    assert ssim_distance_map(first, first).max() < 1e-5


def test_feature_residual_ranks_like_the_sum_of_squared_differences() -> None:
    first, second = ([torch.randn(2, 3, 16 >> i, 16 >> i) * 9 for i in range(3)] for _ in range(2))
    distance = sum(
        F.interpolate((a - b).square().mean(1, keepdim=True), (16, 16), mode="bilinear")
        for a, b in zip(first, second, strict=True)
    )
    residual = feature_residual_map(first, second, (16, 16))
    assert 0 <= residual.min() <= residual.max() < 1
    torch.testing.assert_close(residual / (1 - residual), distance, rtol=1e-3, atol=1e-3)


def test_score_is_the_maximum_or_that_of_the_local_means() -> None:
    maps = torch.rand(3, 1, 40, 30)
    assert torch.equal(AnomalyMapGenerator().score(maps), maps.flatten(1).amax(1))
    torch.testing.assert_close(
        AnomalyMapGenerator(score_pool=21).score(maps), F.avg_pool2d(maps, 21, 1, 10).flatten(1).amax(1)
    )


@pytest.mark.parametrize("size", [-1, 2, 20])
def test_impossible_filters_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"score_pool must be odd.*{size}"):
        AnomalyMapGenerator(score_pool=size)


@pytest.mark.parametrize(("sigma", "pixels"), [(None, 1.0), (2.0, 2.0), (0, 0.0)])
def test_logits_are_averaged_and_blurred_before_they_become_probabilities(sigma: float | None, pixels: float) -> None:
    """By default with 4 pixels of 256, here 1 of 64."""
    images, logits = torch.rand(2, 3, 64, 64), [3 * torch.randn(2, 1, 64 >> i, 64 >> i) - 3 for i in range(3)]
    mean = sum(F.interpolate(level, (64, 64), mode="bilinear") for level in logits) / 3
    expected = torch.stack(
        [torch.from_numpy(expit(gaussian_filter(m[0].numpy(), pixels, mode="mirror"))) for m in mean]
    )
    generator = AnomalyMapGenerator(map_type="logits", sigma=sigma)
    maps = generator("msfdm", images, images, logits=logits)
    torch.testing.assert_close(maps[:, 0], expected, atol=1e-4, rtol=0)
    generator.map_type = "paper"
    probabilities = [level.sigmoid() for level in logits]
    paper = weighted_map(probabilities, (0.2, 0.2, 0.6), (64, 64))
    assert torch.equal(generator("msfdm", images, images, logits=logits), paper)


def test_a_map_of_the_logits_needs_the_msfdm() -> None:
    generator = AnomalyMapGenerator("pixel")
    for change in (lambda: AnomalyMapGenerator("pixel", "logits"), lambda: setattr(generator, "map_type", "logits")):
        with pytest.raises(ValueError, match="anomaly_map='logits' needs discriminator='msfdm', got 'pixel'"):
            change()
    assert generator.map_type == "paper"


def test_a_wide_blur_needs_large_images_for_the_logits_only() -> None:
    generator = AnomalyMapGenerator(sigma=20.0)
    assert generator.smallest_map == 1
    generator.map_type = "logits"
    assert generator.smallest_map == 81
