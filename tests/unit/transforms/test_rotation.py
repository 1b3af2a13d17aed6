"""Batched rotation against torchvision, which rotates by one angle per call."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.transforms.rotation import Interpolation, rotate_where

ANGLES = [-90.0, -33.3, 0.0, 12.5, 45.0, 90.0]


def rotate(images: Tensor, degrees: Tensor, interpolation: Interpolation = "bilinear") -> Tensor:
    return rotate_where(torch.ones(len(images), dtype=torch.bool), images.clone(), degrees, interpolation)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_only_the_chosen_images_are_rotated_each_as_if_alone(dtype: torch.dtype) -> None:
    """300 x 300, of which no two are rotated at once on one thread."""
    images = (torch.rand(6, 3, 300, 300) * 255).to(dtype)
    rotated = torch.tensor([False, True, True, False, True, False])
    before, degrees = images.clone(), torch.tensor(ANGLES)
    assert rotate_where(rotated, images, degrees, highest=255) is images
    assert torch.equal(images[~rotated], before[~rotated])
    for row in rotated.nonzero().flatten().tolist():
        one = slice(row, row + 1)
        assert torch.equal(images[one], rotate_where(rotated[one], before[one].clone(), degrees[one], highest=255))
        assert not torch.equal(images[one], before[one])
