"""Regions of interest: what is accepted, what is refused with one clear error, and points inside."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_plus.transforms import DeletePaste, PerlinAnomaly, Scratch, SuperpixelFilling
from anomalib_plus.transforms.foreground import otsu_foreground
from anomalib_plus.transforms.region import Region, points_inside

KINDS = [Scratch, DeletePaste, PerlinAnomaly, SuperpixelFilling]


def left_half(height: int = 40, width: int = 48) -> torch.Tensor:
    mask = torch.zeros(height, width)
    mask[:, : width // 2] = 0.2  # whatever is not 0 counts
    return mask


def test_a_mask_a_file_and_the_foreground_are_understood(tmp_path: Path) -> None:
    images = torch.rand(3, 3, 40, 48)
    expected = (left_half() > 0).expand(3, 1, -1, -1)
    Image.fromarray((left_half().numpy() > 0).astype(np.uint8) * 255).save(tmp_path / "roi.png")
    batch = torch.stack([left_half(), left_half().flip(1), torch.ones(40, 48)])
    assert torch.equal(Region(left_half()).masks(images), expected)
    for path in (tmp_path / "roi.png", str(tmp_path / "roi.png")):
        assert torch.equal(Region(path).masks(images), expected)
    for masks in (batch, batch[:, None]):
        assert torch.equal(Region(masks).masks(images), batch[:, None] > 0)
    for region in (Region(), Region("everywhere")):
        assert region.is_everywhere
        assert region.masks(images).all()
    assert torch.equal(Region("foreground", "dark").masks(images), otsu_foreground(images, "dark"))


def test_the_file_is_read_once_and_again_after_pickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (32, 32), 255).save(tmp_path / "roi.png")
    transform = Scratch(roi=tmp_path / "roi.png")
    transform.check()
    copied = pickle.loads(pickle.dumps(transform))
    (tmp_path / "roi.png").unlink()
    transform(torch.rand(1, 3, 32, 32))
    with pytest.raises(FileNotFoundError, match=r"roi\.png does not exist"):
        copied(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (torch.zeros(32, 32), "roi allows no pixel: the mask is black"),
        (torch.stack([torch.ones(32, 32), torch.zeros(32, 32)]), "the mask is black"),
        (torch.ones(2, 3, 32, 32), r"roi must have the shape \(H, W\)"),
        (torch.ones(32, 40), r"masks 1 of 32x40, images 2 of 32x32\. Give a mask of the size"),
        (torch.ones(3, 32, 32), "masks 3 of 32x32, images 2 of 32x32"),
        (["list"], "roi must be a mask, a path, 'foreground', 'everywhere' or None, got list"),
        ("black.png", r"black\.png allows no pixel"),
        ("text.png", r"text\.png cannot be read as an image"),
        ("wide.png", "masks 1 of 32x40"),
    ],
    ids=["black", "one black", "colours", "size", "number", "type", "black file", "no image", "size of the file"],
)
def test_unusable_regions_are_one_clear_error(kind: Any, roi: Any, message: str) -> None:
    Image.new("L", (32, 32)).save("black.png")
    Image.new("L", (40, 32), 255).save("wide.png")
    Path("text.png").write_text("no image")
    with pytest.raises(ValueError, match=message):
        kind(probability=1.0, roi=roi)(torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("kind", KINDS)
def test_missing_files_and_polarities_are_refused_before_a_training(kind: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"region of interest missing\.png does not exist"):
        kind(roi="missing.png").check()
    with pytest.raises(ValueError, match="foreground_polarity must be one of"):
        kind(foreground_polarity="light")


def test_points_are_uniform_over_each_mask() -> None:
    masks = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    for mask in masks:
        places = torch.stack(torch.where(mask[0]), 1).float()
        steps = (torch.arange(len(places) * 3) + 0.5) / (len(places) * 3)
        drawn = torch.cat([points_inside(mask[None], step[None]) for step in steps])
        assert torch.equal(drawn, places.repeat_interleave(3, 0))
    assert torch.equal(
        points_inside(masks[:1], torch.tensor([1.0])), torch.stack(torch.where(masks[0, 0]), 1)[-1:].float()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_defects_reach_all_of_the_region(kind: Any) -> None:
    region = torch.zeros(32, 32)
    region[4:12, 20:30] = region[20:30, 2:6] = 1
    _, masks = kind(probability=1.0, roi=region)(torch.rand(200, 3, 32, 32), torch.Generator().manual_seed(0))
    assert torch.equal(masks.amax((0, 1)), region)
