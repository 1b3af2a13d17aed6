"""Masks of the object: by threshold, from files; how they are asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from anomalib_plus.post_processing import MaskFolder, OtsuForeground
from anomalib_plus.post_processing.foreground import dilate, fill_holes, foreground_masks, make_foreground


@pytest.fixture
def washers() -> torch.Tensor:
    """A dark ring with a bright hole on a bright ground, and its negative (2, 3, 64, 64)."""
    rows, columns = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    radius = (rows**2 + columns**2).sqrt()
    ring = ((radius < 20) & (radius > 8)).float()
    return torch.stack([0.9 - 0.8 * ring, 0.1 + 0.8 * ring]).unsqueeze(1).expand(2, 3, 64, 64).clone()


def test_otsu_finds_the_object_with_its_hole(washers: torch.Tensor) -> None:
    rows, columns = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    disc = ((rows**2 + columns**2).sqrt() < 20).float().expand(2, 1, 64, 64)
    assert torch.equal(OtsuForeground(dilation=0)(washers), disc)
    grown = OtsuForeground(dilation=3)(washers)
    expected = ndimage.grey_dilation(disc[0, 0].numpy(), size=7)
    assert torch.equal(grown[0, 0], torch.from_numpy(expected))


def test_polarity_can_be_given() -> None:
    image = torch.tensor([0.2, 0.8]).repeat_interleave(16).expand(1, 3, 32, 32)
    dark, bright = (OtsuForeground(polarity, dilation=0)(image) for polarity in ("dark", "bright"))
    assert torch.equal(dark, (image[:, :1] < 0.5).float())
    assert torch.equal(bright, 1 - dark)


def test_flat_images_are_foreground_everywhere() -> None:
    assert OtsuForeground()(torch.full((1, 3, 32, 32), 0.5)).min() == 1


@pytest.mark.parametrize("seed", range(5))
def test_holes_are_those_of_scipy(seed: int) -> None:
    mask = np.random.default_rng(seed).random((40, 30)) < 0.6
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_no_dilation_is_no_change() -> None:
    masks = torch.rand(2, 1, 8, 8)
    assert dilate(masks, 0) is masks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Masks of 4x4 with so many bright rows."""
    for name, rows in (("crack/000", 1), ("good/000", 2), ("007", 3)):
        mask = np.zeros((4, 4), np.uint8)
        mask[:rows] = 255
        file = tmp_path / "masks" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(file)
    return tmp_path / "masks"


def test_masks_of_a_folder_go_by_folder_and_stem(folder: Path) -> None:
    images = torch.rand(3, 3, 8, 16)
    paths = ["data/test/crack/000.jpg", "data/test/good/000.jpg", "anywhere/007.bmp"]
    masks = MaskFolder(folder)(images, paths)
    assert masks.shape == (3, 1, 8, 16)
    assert masks.flatten(1).mean(1).tolist() == [0.25, 0.5, 0.75]
    assert masks[0, 0, :2].min() == 1
    assert MaskFolder(folder, dilation=1)(images, paths)[0, 0, :3].min() == 1


def test_missing_and_ambiguous_masks_are_named(folder: Path) -> None:
    images = torch.rand(1, 3, 8, 8)
    with pytest.raises(FileNotFoundError, match=r"no foreground mask of .*008\.png"):
        MaskFolder(folder)(images, ["test/008.png"])
    with pytest.raises(ValueError, match=r"Several foreground masks .*scratch/000\.png: crack/000\.png, good/000\.png"):
        MaskFolder(folder)(images, ["test/scratch/000.png"])
    with pytest.raises(FileNotFoundError, match=r"folder of foreground masks .* does not exist"):
        MaskFolder(folder / "missing")(images, ["000.png"])


def test_choices(folder: Path) -> None:
    own = nn.Identity()
    assert make_foreground(None) is None
    assert make_foreground(own) is own
    assert isinstance(make_foreground("otsu"), OtsuForeground)
    assert isinstance(make_foreground("foreground"), OtsuForeground)
    assert make_foreground(str(folder)).folder == folder
    with pytest.raises(
        TypeError, match=r"roi must be None, .* a folder of masks, 'foreground' or an nn\.Module, got int"
    ):
        make_foreground(3)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Identity must return masks of shape \(2, 1, 8, 8\), got \(2, 3, 8, 8\)"):
        foreground_masks(nn.Identity(), torch.rand(2, 3, 8, 8))


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="polarity must be one of auto, bright, dark"):
        OtsuForeground("grey")
    with pytest.raises(ValueError, match="dilation must not be negative"):
        MaskFolder("masks", dilation=-1)
