"""Delete Paste and its siblings, pixel by pixel."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_plus.transforms import Cutout, CutPaste, DeletePaste
from anomalib_plus.transforms.delete_paste import draw_rectangles

ALL = [DeletePaste, CutPaste, Cutout]


def distinct_image(height: int = 256, width: int = 256) -> torch.Tensor:
    """(3, H, W) in which all values differ and lie in (0.1, 1)."""
    ranks = torch.randperm(3 * height * width, generator=torch.Generator().manual_seed(3)).double()
    return 0.11 + 0.88 * ranks.reshape(3, height, width) / ranks.numel()


def bounding_box(pixels: torch.Tensor) -> tuple[int, int, int, int]:
    """Top, left, height, width of the true pixels (H, W)."""
    rows, columns = pixels.any(1).nonzero().flatten(), pixels.any(0).nonzero().flatten()
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize("seed", range(20))
def test_hole_is_black_and_its_pixels_are_elsewhere(seed: int) -> None:
    image = distinct_image()
    damaged, mask = DeletePaste()(image, torch.Generator().manual_seed(seed))
    hole = (damaged == 0).all(dim=0)
    top, left, height, width = bounding_box(hole)
    assert hole.sum() == height * width
    pasted = mask[0].bool() & ~hole
    paste_top, paste_left, paste_height, paste_width = bounding_box(pasted)
    assert (paste_height, paste_width) == (height, width)
    assert mask.sum() == 2 * height * width
    cut = image[:, top : top + height, left : left + width]
    assert torch.equal(damaged[:, paste_top : paste_top + height, paste_left : paste_left + width], cut)
    outside = mask[0] == 0
    assert torch.equal(damaged[:, outside], image[:, outside])


def test_areas_and_aspects_keep_their_ranges_and_distributions() -> None:
    count, size = 20_000, 256
    drawn = draw_rectangles(
        count, (size, size), (0.02, 0.15), (0.3, 3.3), disjoint=True, generator=torch.Generator().manual_seed(0)
    )
    height, width = drawn.height.double(), drawn.width.double()
    share = height * width / size**2
    assert share.min() > 0.02 * 0.97
    assert share.max() < 0.15 * 1.03
    assert share.mean().item() == pytest.approx(0.085, abs=0.001)  # uniform in (0.02, 0.15)
    log_aspect = (width / height).log()
    assert log_aspect.min() > math.log(0.3) - 0.05
    assert log_aspect.max() < math.log(3.3) + 0.05
    assert log_aspect.mean().item() == pytest.approx((math.log(0.3) + math.log(3.3)) / 2, abs=0.02)
    apart_y = (drawn.source_y - drawn.target_y).abs() >= drawn.height
    apart_x = (drawn.source_x - drawn.target_x).abs() >= drawn.width
    assert (apart_y | apart_x).all()


def test_positions_reach_every_corner() -> None:
    drawn = draw_rectangles(
        5_000, (8, 8), (0.05, 0.05), (1, 1), disjoint=False, generator=torch.Generator().manual_seed(0)
    )
    assert set(drawn.height.tolist()) == {2}
    for corner in (drawn.source_y, drawn.source_x, drawn.target_y, drawn.target_x):
        assert set(corner.tolist()) == set(range(7))


def test_overlap_is_accepted_when_nothing_else_fits() -> None:
    damaged, mask = DeletePaste(area_ratio=(0.9, 0.9), aspect_ratio=(1, 1), max_tries=5)(distinct_image(32, 32))
    assert mask.any()
    assert damaged.isfinite().all()


@pytest.mark.parametrize("transform", ALL)
def test_probability_zero_is_the_identity(transform) -> None:
    image = distinct_image(32, 48)
    damaged, mask = transform(probability=0)(image)
    assert torch.equal(damaged, image)
    assert not mask.any()


def test_probability_is_the_share_of_damaged_images() -> None:
    _, masks = DeletePaste(probability=0.3)(torch.rand(2_000, 1, 16, 16), torch.Generator().manual_seed(1))
    assert masks.flatten(1).any(1).double().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("transform", ALL)
def test_a_seed_repeats_and_images_differ(transform) -> None:
    images = distinct_image(64, 64).expand(4, -1, -1, -1)
    first, masks = transform()(images, torch.Generator().manual_seed(5))
    again, _ = transform()(images, torch.Generator().manual_seed(5))
    other, _ = transform()(images, torch.Generator().manual_seed(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 4


def test_siblings_do_one_half_each() -> None:
    image = distinct_image(64, 64)
    pasted, paste_mask = CutPaste()(image, torch.Generator().manual_seed(2))
    assert (pasted > 0).all()
    assert not torch.equal(pasted, image)
    assert torch.equal(pasted[:, paste_mask[0] == 0], image[:, paste_mask[0] == 0])
    blanked, hole_mask = Cutout(fill_value=0.05)(image, torch.Generator().manual_seed(2))
    assert torch.equal((blanked == 0.05).all(0), hole_mask[0].bool())
    height, width = bounding_box(hole_mask[0].bool())[2:]
    assert hole_mask.sum() == height * width


def test_several_patches_are_cut_from_the_clean_image() -> None:
    image = distinct_image(128, 128)
    damaged, mask = DeletePaste(num_patches=4)(image, torch.Generator().manual_seed(0))
    single = DeletePaste(num_patches=1)(image, torch.Generator().manual_seed(0))[1]
    assert mask.sum() > 1.5 * single.sum()
    clean_or_black = torch.cat([image.flatten(), torch.zeros(1)])
    assert torch.isin(damaged, clean_or_black).all()


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 4),
    height=st.integers(32, 160),
    width=st.integers(32, 160),
    seed=st.integers(0, 2**31),
    transform=st.sampled_from(ALL),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)
def test_any_batch(count, height, width, seed, transform, dtype) -> None:
    check_batch(count, height, width, seed, transform, dtype)


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None)
@given(
    count=st.integers(1, 4),
    height=st.integers(32, 512),
    width=st.integers(32, 512),
    seed=st.integers(0, 2**31),
    transform=st.sampled_from(ALL),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)
def test_any_batch_thousands_of_times(count, height, width, seed, transform, dtype) -> None:
    check_batch(count, height, width, seed, transform, dtype)


def check_batch(count: int, height: int, width: int, seed: int, transform, dtype: torch.dtype) -> None:
    """Outside the mask nothing changes; masks are binary and not empty; values and types stay; input is untouched."""
    images = (torch.rand(count, 3, height, width) * 0.8 + 0.1).to(dtype)
    before = images.clone()
    damaged, masks = transform()(images, torch.Generator().manual_seed(seed))
    assert torch.equal(images, before)
    assert damaged.dtype == masks.dtype == dtype
    assert masks.shape == (count, 1, height, width)
    assert ((masks == 0) | (masks == 1)).all()
    assert masks.flatten(1).any(dim=1).all()
    assert torch.equal(damaged * (1 - masks), images * (1 - masks))
    assert damaged.min() >= 0
    assert damaged.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"area_ratio": (0.2, 0.1)}, "area_ratio"),
        ({"area_ratio": (0.0, 0.1)}, "area_ratio"),
        ({"aspect_ratio": (0, 1)}, "aspect_ratio"),
        ({"probability": 1.5}, "probability"),
        ({"fill_value": 255}, "fill_value"),
        ({"num_patches": 0}, "num_patches"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeletePaste(**arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [(torch.zeros(8, 8), "got shape"), (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "Divide 8-bit images by 255")],
    ids=["shape", "dtype"],
)
def test_unusable_images_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeletePaste()(images)
