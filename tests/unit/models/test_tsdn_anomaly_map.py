"""TSDN's anomaly map against closed forms and scipy."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_plus.layers.similarity import msgms_distance_map
from anomalib_plus.models.tsdn.anomaly_map import AnomalyMapGenerator


def constant(*colour: float) -> torch.Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 64, 64)


def test_distance_of_two_colours_everywhere_borders_included() -> None:
    score, anomaly_map = AnomalyMapGenerator()(constant(0.2, 0.4, 0.9), constant(0.2, 0.1, 0.5))
    torch.testing.assert_close(anomaly_map, torch.full((1, 1, 64, 64), 0.5 / math.sqrt(3)))
    torch.testing.assert_close(score, torch.tensor([0.5 / math.sqrt(3)]))


def test_largest_distance_is_one_and_none_is_zero() -> None:
    _, largest = AnomalyMapGenerator()(constant(0.0, 0.0, 0.0), constant(1.0, 1.0, 1.0))
    _, smallest = AnomalyMapGenerator()(constant(0.3, 0.2, 0.1), constant(0.3, 0.2, 0.1))
    torch.testing.assert_close(largest, torch.ones(1, 1, 64, 64))
    assert largest.max() <= 1
    assert (smallest == 0).all()


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_blur_is_scipys(sigma: float) -> None:
    images, reconstructions = torch.rand(2, 2, 3, 64, 80)
    distance = (images - reconstructions).square().sum(1).sqrt() / math.sqrt(3)
    expected = torch.stack([torch.from_numpy(gaussian_filter(d.numpy(), sigma, mode="mirror")) for d in distance])
    score, anomaly_map = AnomalyMapGenerator(sigma)(images, reconstructions)
    torch.testing.assert_close(anomaly_map[:, 0], expected, atol=1e-4, rtol=0)
    assert torch.equal(score, anomaly_map.amax((1, 2, 3)))


def test_blur_is_the_papers_share_of_the_image() -> None:
    images, reconstructions = torch.rand(2, 1, 3, 176, 176)
    assert torch.equal(
        AnomalyMapGenerator()(images, reconstructions)[1], AnomalyMapGenerator(2.0)(images, reconstructions)[1]
    )


def test_blur_can_be_switched_off() -> None:
    images, reconstructions = torch.rand(2, 1, 3, 32, 32)
    _, anomaly_map = AnomalyMapGenerator(0)(images, reconstructions)
    torch.testing.assert_close(anomaly_map[:, 0], (images - reconstructions).square().sum(1).sqrt() / math.sqrt(3))


def test_negative_sigma_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma must not be negative"):
        AnomalyMapGenerator(-1.0)


def test_other_maps_are_those_of_structure_and_mask() -> None:
    images, reconstructions, mask = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    structure = msgms_distance_map(images, reconstructions).mean(dim=1, keepdim=True)
    expected = {"msgms": structure, "mask": mask, "msgms+mask": (structure + mask) / 2}
    for map_type, anomaly_map in expected.items():
        score, actual = AnomalyMapGenerator(0, map_type)(images, reconstructions, mask)
        torch.testing.assert_close(actual, anomaly_map)
        assert score.item() == actual.max()


@pytest.mark.parametrize("map_type", ["mask", "msgms+mask"])
def test_a_map_of_the_mask_needs_its_decoder(map_type: str) -> None:
    with pytest.raises(ValueError, match="needs the decoder of the mask: set use_mask_decoder=True"):
        AnomalyMapGenerator(map_type=map_type, has_mask=False)
    with pytest.raises(ValueError, match="anomaly_map must be one of color, msgms, mask"):
        AnomalyMapGenerator(map_type="l1")
