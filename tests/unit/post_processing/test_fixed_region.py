"""One mask for all images: where it may come from, which sizes fit, and what is said of others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

from anomalib_plus.post_processing.fixed_region import FixedRegion

TRANSFORM = Compose([Resize((16, 32)), CenterCrop((16, 16)), Normalize([0.5] * 3, [0.5] * 3)])


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> str:
    """100 pixels wide, 60 high."""
    return str(save(tmp_path / "image.png", np.zeros((60, 100, 3), np.uint8)))


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Of the size of the image; the left half counts."""
    mask = np.zeros((60, 100), np.uint8)
    mask[:, :50] = 1
    return save(tmp_path / "left.png", mask)


def test_a_mask_of_the_images_size_goes_through_the_models_transform(left: Path, image: str) -> None:
    mask = FixedRegion(left).at((16, 16), TRANSFORM, image)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[:, :8] = True
    assert torch.equal(mask, expected)


def test_a_mask_of_the_maps_size_is_taken_as_it_is(image: str) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (16, 16))
    for given in (mask, torch.from_numpy(mask)):
        assert torch.equal(FixedRegion(given).at((16, 16), TRANSFORM, image), torch.from_numpy(mask != 0))


def test_another_size_is_named_with_path_and_sizes(tmp_path: Path, image: str, left: Path) -> None:
    other = save(tmp_path / "other.png", np.full((30, 50), 255, np.uint8))
    with pytest.raises(ValueError, match=r"other\.png has 50x30 pixels, the image .*image\.png 100x60 and "):
        FixedRegion(other).at((16, 16), TRANSFORM, image)
    with pytest.raises(ValueError, match=r"left\.png has 100x60 pixels, the image \? and the anomaly maps 16x16"):
        FixedRegion(left).at((16, 16), TRANSFORM, None)


def test_a_mask_of_which_nothing_is_left(tmp_path: Path, image: str) -> None:
    thin = np.zeros((60, 100), np.uint8)
    thin[0, 0] = 255  # cropped by the transform
    with pytest.raises(ValueError, match=r"thin\.png has no pixel left at 16x16"):
        FixedRegion(save(tmp_path / "thin.png", thin)).at((16, 16), TRANSFORM, image)


def test_what_is_no_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.png does not exist"):
        FixedRegion(tmp_path / "missing.png").read()
    black = save(tmp_path / "black.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"black\.png allows no pixel: the mask is black"):
        FixedRegion(black).read()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png cannot be read as an image"):
        FixedRegion(tmp_path / "text.png").read()
    with pytest.raises(ValueError, match="must be one mask"):
        FixedRegion(np.ones((2, 4, 4))).read()
