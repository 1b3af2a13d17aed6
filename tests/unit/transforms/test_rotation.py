"""Batched rotation against torchvision, which rotates by one angle per call."""

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.transforms.rotation import rotate

ANGLES = [-90.0, -33.3, 0.0, 12.5, 45.0, 90.0]


@pytest.mark.parametrize("size", [(64, 64), (33, 80)])
def test_bilinear_equals_torchvision(size: tuple[int, int]) -> None:
    images = torch.rand(len(ANGLES), 3, *size)
    rotated = rotate(images, torch.tensor(ANGLES))
    for image, angle, result in zip(images, ANGLES, rotated, strict=True):
        expected = tv.rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(result, expected, atol=2e-4, rtol=0)


def test_nearest_equals_torchvision_but_for_ties() -> None:
    """A pixel that falls on the middle between two may go either way."""
    masks = (torch.rand(len(ANGLES), 1, 65, 65) > 0.5).float()
    rotated = rotate(masks, torch.tensor(ANGLES), "nearest")
    assert set(rotated.unique().tolist()) == {0.0, 1.0}
    for mask, angle, result in zip(masks, ANGLES, rotated, strict=True):
        expected = tv.rotate(mask, angle, interpolation=InterpolationMode.NEAREST)
        assert (result != expected).float().mean() < 0.01


def test_what_comes_from_outside_is_zero() -> None:
    rotated = rotate(torch.ones(1, 1, 64, 64), torch.tensor([45.0]))
    assert rotated[0, 0, 0, 0] == 0
    assert rotated[0, 0, 32, 32] == 1
