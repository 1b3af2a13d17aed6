"""How many superpixels an image of any size has, and what they are filled with."""

from typing import Literal

import pytest
import torch
from skimage import data
from torch.nn.functional import interpolate

from anomalib_plus.transforms.superpixel_filling import SuperpixelFilling


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    return interpolate(image[None], (352, 352), mode="bilinear", antialias=True)[0]


@pytest.mark.parametrize(
    ("arguments", "size", "counts"),
    [
        ({}, (352, 352), (400, 50)),
        ({}, (704, 176), (400, 50)),
        ({}, (128, 128), (145, 18)),
        ({}, (2, 2), (2, 1)),
        ({"n_segments": 200}, (128, 128), (200, 25)),
        ({"n_filled": 9}, (128, 128), (145, 9)),
        ({"n_segments": 200, "n_filled": 9}, (352, 352), (200, 9)),
    ],
    ids=str,
)
def test_counts_are_the_papers_scaled_with_the_side(
    arguments: dict, size: tuple[int, int], counts: tuple[int, int]
) -> None:
    assert SuperpixelFilling(**arguments).counts(*size) == counts


def test_small_images_have_fewer_superpixels(photo: torch.Tensor) -> None:
    filling = SuperpixelFilling()
    _, mask = filling(interpolate(photo[None], (128, 128), antialias=True, mode="bilinear")[0], seeded())
    (labels, n_labels), *_ = filling.cache._maps.values()
    assert n_labels == pytest.approx(145, rel=0.2)
    assert len(labels[mask[0] == 1].unique()) == 18


def test_more_than_a_small_image_has_is_refused() -> None:
    with pytest.raises(ValueError, match="n_segments=145, got 160: 128x128 pixels have so few"):
        SuperpixelFilling(n_filled=160)(torch.rand(3, 128, 128))


@pytest.mark.parametrize("grey", [True, "auto"])
def test_grey_images_can_stay_grey(photo: torch.Tensor, grey: Literal["auto"] | bool) -> None:
    image = photo.mean(dim=0, keepdim=True).expand(3, -1, -1)
    filled_in, mask = SuperpixelFilling(grey=grey)(image, seeded())
    assert torch.equal(filled_in[0], filled_in[1])
    assert torch.equal(filled_in[0], filled_in[2])
    assert len(filled_in[0][mask[0] == 1].unique()) == 50
    coloured, _ = SuperpixelFilling()(image, seeded())
    assert not torch.equal(coloured[0], coloured[1])


def test_auto_fills_images_in_colour_with_colours(photo: torch.Tensor) -> None:
    grey = photo.mean(dim=0, keepdim=True).expand(3, -1, -1)
    images = torch.stack([photo, grey])
    filled_in, masks = SuperpixelFilling(grey="auto")(images, seeded())
    coloured, same_masks = SuperpixelFilling()(images, seeded())
    assert torch.equal(masks, same_masks)
    assert torch.equal(filled_in[0], coloured[0])
    assert torch.equal(filled_in[1, 0], coloured[1, 0])
    assert torch.equal(filled_in[1, 0], filled_in[1, 1])
    tinted = grey * torch.tensor([1.0, 0.99, 0.98])[:, None, None]
    tinted += 0.02 * torch.randn(tinted.shape, generator=seeded())  # a camera's noise differs from colour to colour
    filled_in, mask = SuperpixelFilling(grey="auto")(tinted.clamp_(0, 1), seeded())
    assert torch.equal(filled_in[0] * mask[0], filled_in[2] * mask[0])
    with pytest.raises(ValueError, match="grey must be true, false"):
        SuperpixelFilling(grey="yes")  # type: ignore[arg-type]


def test_opacity_blends_each_superpixel_by_itself(photo: torch.Tensor) -> None:
    opaque, mask = SuperpixelFilling()(photo, seeded())
    half, same_mask = SuperpixelFilling(opacity=0.5)(photo, seeded())
    assert torch.equal(mask, same_mask)
    torch.testing.assert_close(half, (opaque + photo) / 2)
    mixed, _ = SuperpixelFilling(opacity=(0.3, 0.8))(photo, seeded())
    inside = mask.bool().expand_as(photo) & ((opaque - photo).abs() > 0.2)
    shares = ((mixed - photo) / (opaque - photo))[inside]
    assert 0.3 <= shares.min() < 0.4
    assert 0.7 < shares.max() <= 0.8 + 1e-5
    assert len((shares * 1e3).round().unique()) > 25
