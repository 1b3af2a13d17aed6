"""From distances to the map: closed forms of sum, blur and borders."""

import pytest
import torch

from anomalib_plus.models.astmfr.anomaly_map import AnomalyMapGenerator

SIZE = (256, 256)


def constant(value: float, size: int) -> torch.Tensor:
    return torch.full((1, 1, size, size), value)


def test_levels_add_up_and_borders_are_not_damped() -> None:
    """Single distances of 0.1, 0.2 and 0.3 make 1.2 by the paper's count; padded zeros would make 0.432 at a corner."""
    levels = [constant(0.1, 64), constant(0.2, 32), constant(0.3, 16)]
    maps = AnomalyMapGenerator()(levels, SIZE) * AnomalyMapGenerator.paper_range(3, l2_weight=1)
    torch.testing.assert_close(maps, torch.full((1, 1, *SIZE), 1.2), atol=1e-5, rtol=0)
    assert maps[0, 0, 0, 0].item() == pytest.approx(1.2, abs=2e-6)


@pytest.mark.parametrize(("pool_size", "peak"), [(0, 0.00994789), (1, 0.00994789), (5, 0.00880290)])
def test_unit_impulse(pool_size: int, peak: float) -> None:
    impulse = torch.zeros(1, 1, *SIZE)
    impulse[0, 0, 128, 128] = 1
    smooth = 2 * AnomalyMapGenerator(4.0, pool_size)([impulse], SIZE)
    assert smooth.max().item() == smooth[0, 0, 128, 128].item() == pytest.approx(peak, abs=1e-8)
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("size", "sigma", "pool"), [(256, 4.0, (5, 5)), (128, 2.0, (3, 3)), (64, 1.0, (1, 1))])
def test_windows_are_the_papers_share_of_the_image(size: int, sigma: float, pool: tuple[int, int]) -> None:
    maps = torch.rand(1, 1, size, size)
    assert torch.equal(AnomalyMapGenerator().smooth(maps), AnomalyMapGenerator(sigma, pool[0]).smooth(maps))


def test_height_and_width_are_scaled_by_themselves() -> None:
    maps = torch.rand(1, 1, 256, 128)
    pooled = torch.nn.functional.avg_pool2d(maps, (5, 3), 1, (2, 1), count_include_pad=False)
    assert torch.equal(AnomalyMapGenerator(sigma=0).smooth(maps), pooled)


def test_product_is_the_geometric_mean_of_the_levels() -> None:
    levels = [constant(0.2, 64), constant(0.4, 32), constant(1.6, 16)]
    maps = AnomalyMapGenerator(map_type="product")(levels, (64, 64))
    torch.testing.assert_close(maps, torch.full((1, 1, 64, 64), (0.2 * 0.4 * 1.6) ** (1 / 3) / 2))
    with pytest.raises(ValueError, match="anomaly_map must be one of sum, product"):
        AnomalyMapGenerator(map_type="max")


def test_distances_without_a_bound_keep_their_order_in_the_unit_interval() -> None:
    levels = [torch.rand(1, 1, 64, 64) * 50, torch.rand(1, 1, 64, 64) * 50]
    maps = AnomalyMapGenerator(0, 0, bounded=False)(levels, (64, 64))
    torch.testing.assert_close(maps / (1 - maps), (levels[0] + levels[1]) / 2, rtol=1e-4, atol=1e-4)


def test_smoothing_switched_off_leaves_the_mean_of_the_upsampled_levels() -> None:
    levels = [torch.rand(2, 1, 16, 16), torch.rand(2, 1, 8, 8)]
    upsampled = [torch.nn.functional.interpolate(level, (32, 32), mode="bilinear") for level in levels]
    maps = AnomalyMapGenerator(sigma=0, pool_size=0)(levels, (32, 32))
    torch.testing.assert_close(maps, (upsampled[0] + upsampled[1]) / 4)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_extreme_distances_stay_in_the_unit_interval(value: float) -> None:
    maps = AnomalyMapGenerator()([constant(value, 16)] * 3, (64, 64))
    assert 0 <= maps.min() <= maps.max() <= 1
    assert maps.mean().item() == pytest.approx(value / 2, abs=1e-6)


@pytest.mark.parametrize("arguments", [{"sigma": -1}, {"pool_size": 4}, {"pool_size": -3}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match="sigma must not be negative and pool_size must be odd or 0"):
        AnomalyMapGenerator(**arguments)
