"""The exportable resizing gives what torchvision's gives."""

import pytest
import torch
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

from anomalib_plus.deployment.resizing import pre_process, resize_antialiased, transform_for_export

SIZES = [(32, 48), (31, 50), (64, 20), (200, 333), (7, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_torchvision(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    expected = Resize((32, 48), antialias=True)(images)
    torch.testing.assert_close(resize_antialiased(images, (32, 48)), expected, atol=1e-5, rtol=0)


def test_a_flat_image_stays_flat() -> None:
    images = torch.full((1, 3, 77, 130), 0.3)
    torch.testing.assert_close(resize_antialiased(images, (16, 40)), torch.full((1, 3, 16, 40), 0.3))


def test_all_transforms_are_applied_in_their_order() -> None:
    normalize = Normalize([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    transform = Compose([Resize((40, 40), antialias=True), CenterCrop(32), normalize])
    images = torch.rand(1, 3, 90, 75)
    torch.testing.assert_close(transform_for_export(transform, images), transform(images), atol=1e-4, rtol=0)


def test_a_resize_without_antialiasing_stays_one() -> None:
    images = torch.rand(1, 3, 90, 75)
    resize = Resize((40, 40), antialias=False)
    torch.testing.assert_close(transform_for_export(resize, images), resize(images))


@pytest.mark.parametrize("pre_processor", [None, PreProcessor(), nn.Identity()], ids=["none", "empty", "a module"])
def test_without_a_transform_images_pass(pre_processor: nn.Module | None) -> None:
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(pre_process(pre_processor, images), images)
