"""From logits to map and score: the mean filter, its borders, and which of the two maps is given."""

import pytest
import torch
import torch.nn.functional as F

from anomalib_plus.layers.blur import mean_filter
from anomalib_plus.layers.similarity import msgms_distance_map
from anomalib_plus.models.fear.anomaly_map import AnomalyMapGenerator


def logits_of(probabilities: torch.Tensor) -> torch.Tensor:
    """Logits (B, 2, H, W) whose softmax gives these probabilities (B, 1, H, W) of an anomaly."""
    return torch.cat([torch.zeros_like(probabilities), torch.logit(probabilities)], dim=1)


def map_of(generator: AnomalyMapGenerator, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Score and map where image and reconstruction do not matter."""
    images = torch.zeros(len(logits), 3, *logits.shape[2:])
    return generator(logits, images, images)


def test_borders_are_damped() -> None:
    smooth = mean_filter(torch.ones(1, 1, 64, 64), 21)[0, 0]
    assert smooth[32, 32].item() == pytest.approx(1)
    assert smooth[0, 32].item() == pytest.approx(231 / 441)
    assert smooth[63, 63].item() == pytest.approx(121 / 441)


@pytest.mark.parametrize(("kernel", "score"), [(21, 1 / 441), (3, 1 / 9), (0, 1.0), (None, 1 / 25)])
def test_one_hot_pixel(kernel: int | None, score: float) -> None:
    """The paper's window, 21 at 256 pixels, is 5 at 64."""
    logits = torch.zeros(1, 2, 64, 64)
    logits[:, 0] = 200
    logits[0, 1, 30, 20] = 400
    scores, raw = map_of(AnomalyMapGenerator(kernel), logits)
    assert scores.item() == pytest.approx(score, abs=1e-6)
    assert raw.sum().item() == raw[0, 0, 30, 20].item() == 1


def test_the_map_is_the_probability_and_the_score_the_largest_local_mean() -> None:
    probabilities = torch.rand(3, 1, 40, 56) * 0.98 + 0.01
    scores, raw = map_of(AnomalyMapGenerator(5), logits_of(probabilities))
    torch.testing.assert_close(raw, probabilities)
    torch.testing.assert_close(scores, F.avg_pool2d(probabilities, 5, 1, 2).flatten(1).amax(1))


def test_the_smoothed_map_has_the_score_of_the_raw_one() -> None:
    logits = torch.randn(2, 2, 32, 32) * 3
    scores, raw = map_of(AnomalyMapGenerator(21), logits)
    same_scores, smooth = map_of(AnomalyMapGenerator(21, "smoothed"), logits)
    assert torch.equal(scores, same_scores)
    torch.testing.assert_close(smooth, F.avg_pool2d(raw, 21, 1, 10))


def test_maps_of_the_reconstruction() -> None:
    logits, images, reconstructions = torch.randn(2, 2, 32, 32), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    structure = msgms_distance_map(images, reconstructions).mean(dim=1, keepdim=True)
    both = (structure + logits.softmax(dim=1)[:, 1:]) / 2
    for map_type, expected in {"msgms": structure, "smoothed+msgms": both}.items():
        scores, maps = AnomalyMapGenerator(5, map_type)(logits, images, reconstructions)
        torch.testing.assert_close(maps, F.avg_pool2d(expected, 5, 1, 2))
        assert torch.equal(scores, maps.amax((1, 2, 3)))


@pytest.mark.parametrize("margin", [-1e4, 0.0, 1e4])
def test_extreme_logits_stay_in_the_unit_interval(margin: float) -> None:
    logits = torch.stack([torch.zeros(64, 64), torch.full((64, 64), margin)])[None]
    for map_type in ("raw", "smoothed", "smoothed+msgms"):
        for values in map_of(AnomalyMapGenerator(21, map_type), logits):
            assert values.isfinite().all()
            assert 0 <= values.min() <= values.max() <= 1


@pytest.mark.parametrize("kernel", [2, 20, -3])
def test_impossible_kernels_are_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match=f"smoothing_kernel must be odd .*got {kernel}"):
        AnomalyMapGenerator(kernel)


def test_unknown_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="anomaly_map must be one of raw, smoothed, msgms, smoothed\\+msgms, got 'l2'"):
        AnomalyMapGenerator(map_type="l2")
