"""Which transforms give the same image each time."""

import pytest
from anomalib.data.transforms import SquarePad
from torch import nn
from torchvision.transforms.v2 import CenterCrop, ColorJitter, Compose, Normalize, RandomHorizontalFlip, Resize

from anomalib_plus.training.repeatable import is_repeatable


@pytest.mark.parametrize(
    ("transform", "repeats"),
    [
        (None, True),
        (Resize((64, 64)), True),
        (Compose([SquarePad(), Resize(70), Compose([CenterCrop(64), Normalize([0.0], [1.0])])]), True),
        (nn.Sequential(Resize(70), CenterCrop(64)), True),
        (RandomHorizontalFlip(), False),
        (Compose([Resize((64, 64)), Compose([ColorJitter(0.1)])]), False),
    ],
    ids=["none", "resize", "nested", "sequential", "flip", "nested jitter"],
)
def test_which_transforms_give_the_same_image_each_time(transform: nn.Module | None, repeats: bool) -> None:
    assert is_repeatable(transform) == repeats
