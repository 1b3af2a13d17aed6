"""The target of the normality estimator: what counts as similar, and that similar means low."""

import kornia
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_plus.models.tsdn.feature_normality import (
    FeatureNormalityEstimator,
    channel_similarity,
    normality_target,
    scaled_distance,
)


def blob(size: int = 88) -> torch.Tensor:
    """A soft disc off the centre, (1, 1, size, size), that touches neither 0 nor 1 everywhere."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    return torch.exp(-((rows - 0.3) ** 2 + (columns - 0.6) ** 2) / 0.02)[None, None]


def test_the_most_similar_channel_gets_0_and_the_least_similar_1() -> None:
    target = scaled_distance(torch.tensor([[0.9, 0.5, -0.1]]))
    torch.testing.assert_close(target, torch.tensor([[0.0, 0.4, 1.0]]))


def test_images_are_scaled_one_by_one() -> None:
    target = scaled_distance(torch.tensor([[0.9, 0.5, -0.1], [0.2, 0.1, 0.15]]))
    torch.testing.assert_close(target, torch.tensor([[0.0, 0.4, 1.0], [0.0, 1.0, 0.5]]))


def test_a_channel_that_equals_the_mask_gets_0() -> None:
    mask = (blob() - blob().amin()) / (blob().amax() - blob().amin())
    features = torch.cat([torch.rand(1, 7, 88, 88), mask], dim=1)
    similarity = channel_similarity(features, mask, 88)
    assert similarity[0, 7] == pytest.approx(1, abs=1e-4)
    assert normality_target(features, mask, 88)[0, 7] == 0


def test_an_inverted_channel_counts_as_normal() -> None:
    mask = blob()
    features = torch.cat([1 - mask, mask, torch.rand(1, 6, 88, 88)], dim=1)
    target = normality_target(features, mask)[0]
    assert target[0] == 1
    assert target[1] == 0


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 15),
    st.floats(0.01, 100),
    st.sampled_from([(64, 64), (96, 64), (128, 192)]),
)
def test_the_channel_that_shows_the_mask_is_the_least_normal(
    seed: int, index: int, gain: float, size: tuple[int, int]
) -> None:
    """Whatever its gain, among channels that know nothing of the mask."""
    generator = torch.Generator().manual_seed(seed)
    coarse = (torch.rand(1, 1, size[0] // 16, size[1] // 16, generator=generator) < 0.2).float()
    coarse[..., 0, 0], coarse[..., -1, -1] = 1, 0
    mask = F.interpolate(coarse, size, mode="nearest")
    features = torch.rand(1, 16, *coarse.shape[-2:], generator=generator)
    features[:, index] = gain * coarse[:, 0]
    assert normality_target(features, mask).argmin() == index


def coarse_mask(grid: int, seed: int) -> torch.Tensor:
    """Cells of an eighth of the area, as superpixels fill it (1, 1, grid, grid); never empty or full."""
    mask = (torch.rand(1, 1, grid, grid, generator=torch.Generator().manual_seed(seed)) < 0.125).float()
    mask[..., 2, 3], mask[..., 0, 0] = 1, 0
    return mask


@pytest.mark.parametrize(("grid", "side"), [(11, 352), (8, 256), (4, 128)])
@pytest.mark.parametrize("seed", range(3))
def test_polarity_among_sparse_dead_and_spiky_channels(grid: int, side: int, seed: int) -> None:
    """A channel that shows the mask is suppressed, whatever its gain and offset and whatever the others are."""
    cells = coarse_mask(grid, seed)
    noise = torch.randn(1, 2, grid, grid, generator=torch.Generator().manual_seed(seed))
    spike = torch.zeros(1, 1, grid, grid)
    spike[..., 1, 1] = 30
    channels = {
        "mask": 3 * cells - 7,
        "spiky": spike * (1 - cells),
        "dead": torch.zeros_like(cells),
        "sparse": noise[:, :1].clamp_min(1),
        "random": noise[:, 1:],
        "inverted": -cells,
    }
    mask = F.interpolate(cells, (side, side), mode="nearest")
    weights = dict(zip(channels, normality_target(torch.cat([*channels.values()], dim=1), mask)[0], strict=True))
    assert weights["mask"] < 0.05
    assert weights["mask"] < min(weights["sparse"], weights["random"])
    assert weights["random"] > 0.7
    assert weights["inverted"] == 1


def blended_channels(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Channels of any gain and offset, from the mask through noise to its opposite; their likeness, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    cells = coarse_mask(11, seed)
    likeness = torch.linspace(1, -1, 64)
    noise, gain, offset = (torch.randn(1, 64, *size, generator=generator) for size in ((11, 11), (1, 1), (1, 1)))
    share = likeness.view(1, 64, 1, 1)
    blended = share * (cells - cells.mean()) / cells.std() + (1 - share.abs()) * noise
    return blended * gain.exp() + offset, likeness, F.interpolate(cells, (352, 352), mode="nearest")


def rank_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    ranks = torch.stack([values.argsort().argsort().float() for values in (first, second)])
    return float(torch.corrcoef(ranks)[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_similarity_ranks_linear_channels_and_not_those_behind_a_relu(seed: int) -> None:
    """Why the bottleneck has no ReLU: behind one, the similarity measures how sparse a channel is."""
    features, likeness, mask = blended_channels(seed)
    assert rank_correlation(channel_similarity(features, mask)[0], likeness) > 0.98
    assert rank_correlation(channel_similarity(features.relu(), mask)[0], likeness) < 0.7


def test_similarity_is_the_mean_of_kornias_map() -> None:
    mask, features = torch.rand(2, 1, 88, 88), torch.rand(2, 70, 88, 88)
    low, high = features.amin((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
    scaled = (features - low) / (high - low)
    expected = kornia.metrics.ssim(scaled, mask.expand_as(scaled), window_size=11).mean((2, 3))
    torch.testing.assert_close(channel_similarity(features, mask, 88), expected, atol=1e-5, rtol=0)


def test_features_are_scaled_then_resized_and_the_mask_is_averaged() -> None:
    mask, features = torch.rand(1, 1, 176, 176), 50 * torch.randn(1, 5, 11, 11)
    low, high = features.amin((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
    resized = F.interpolate((features - low) / (high - low), (88, 88), mode="bilinear", align_corners=False)
    averaged = F.avg_pool2d(mask, 2).expand_as(resized)
    expected = kornia.metrics.ssim(resized, averaged, window_size=11).mean((2, 3))
    torch.testing.assert_close(channel_similarity(features, mask, 88), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("image", "side"), [((352, 352), (88, 88)), ((128, 192), (32, 48)), ((32, 64), (11, 16))])
def test_channels_are_compared_at_a_quarter_of_the_image(image: tuple[int, int], side: tuple[int, int]) -> None:
    mask, features = torch.rand(1, 1, *image), torch.rand(1, 5, 2, 3)
    low, high = features.amin((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
    resized = F.interpolate((features - low) / (high - low), side, mode="bilinear", align_corners=False)
    averaged = F.interpolate(mask, side, mode="area").expand_as(resized)
    expected = kornia.metrics.ssim(resized, averaged, window_size=11).mean((2, 3))
    torch.testing.assert_close(channel_similarity(features, mask), expected, atol=1e-5, rtol=0)


def test_target_has_no_gradient() -> None:
    features, mask = torch.rand(2, 4, 4, 4, requires_grad=True), torch.rand(2, 1, 64, 64, requires_grad=True)
    target = normality_target(features, mask)
    assert not target.requires_grad
    assert target.dtype == torch.float32


def test_equal_or_constant_channels_give_numbers() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    equal = torch.rand(1, 1, 4, 4).expand(1, 6, 4, 4)
    assert (normality_target(equal, mask) == 0).all()
    assert normality_target(torch.zeros(1, 6, 4, 4), mask).isfinite().all()
    assert normality_target(torch.full((1, 6, 4, 4), 1e4), torch.ones_like(mask)).isfinite().all()


def test_half_precision_features_are_compared_in_full() -> None:
    features, mask = torch.rand(1, 8, 4, 4).bfloat16(), torch.rand(1, 1, 64, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        actual = normality_target(features, mask, 32)
    assert torch.equal(actual, normality_target(features.float(), mask.float(), 32))


def test_estimator_takes_maps_of_any_size_and_leaves_the_right_one_alone() -> None:
    estimator = FeatureNormalityEstimator(16, channels=4, hidden=(8, 6), size=5).eval()
    for size in ((5, 5), (2, 2), (7, 12)):
        assert estimator(torch.rand(3, 16, *size)).shape == (3, 16)
    features = torch.rand(3, 16, 5, 5)
    literal = estimator.layers(estimator.convolution(features).flatten(1))
    assert torch.equal(estimator(features), literal)


def test_estimator_is_a_convolution_and_three_layers() -> None:
    estimator = FeatureNormalityEstimator(256)
    assert [tuple(layer.weight.shape) for layer in estimator.layers[::2]] == [(512, 3872), (256, 512), (256, 256)]
    assert [type(layer).__name__ for layer in estimator.layers] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
