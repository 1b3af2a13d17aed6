"""Tiles for training: masks and labels go with the pixels, every image gives some."""

import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_plus.tiling.training_tiles import draw_tiles


@pytest.fixture
def batch() -> ImageBatch:
    """Three images; the first has a defect at the top left, where its red channel is 1."""
    images, masks = torch.rand(3, 3, 40, 50) / 2, torch.zeros(3, 40, 50, dtype=torch.bool)
    images[0, 0, :12, :12], masks[0, :12, :12] = 1, True
    return ImageBatch(image=images, gt_mask=masks, gt_label=masks.flatten(1).any(dim=1), image_path=["a", "b", "c"])


def test_masks_and_labels_are_those_of_the_pixels(batch: ImageBatch) -> None:
    tiles = draw_tiles(batch, batch.image, (16, 16), 90)
    assert tiles.image.shape == (90, 3, 16, 16)
    assert torch.equal(tiles.gt_mask, tiles.image[:, 0] == 1)
    assert torch.equal(tiles.gt_label, tiles.gt_mask.flatten(1).any(dim=1))
    assert 0 < tiles.gt_label.sum() < 30, "of the tiles of a defective image, those with the defect"
    assert tiles.image_path is None


def test_masks_follow_the_scale(batch: ImageBatch) -> None:
    halved = torch.nn.functional.avg_pool2d(batch.image, 2)
    tiles = draw_tiles(batch, halved, (16, 16), 30)
    assert torch.equal(tiles.gt_mask, tiles.image[:, 0] == 1)
    assert tiles.gt_mask.any()


@pytest.mark.parametrize(("count", "expected"), [(2, 3), (7, 7)])
def test_every_image_gives_a_tile(batch: ImageBatch, count: int, expected: int) -> None:
    images = torch.arange(3.0)[:, None, None, None].expand(3, 3, 40, 50)
    tiles = draw_tiles(batch, images, (16, 16), count)
    assert len(tiles.image) == expected
    assert tiles.image.unique().tolist() == [0, 1, 2]


def test_labels_without_masks_are_those_of_the_images(batch: ImageBatch) -> None:
    batch.gt_mask = None
    tiles = draw_tiles(batch, batch.image, (16, 16), 6)
    assert tiles.gt_mask is None
    assert tiles.gt_label.tolist() == [True, False, False] * 2


def test_places_are_random_and_follow_from_torchs_seed(batch: ImageBatch) -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return draw_tiles(batch, batch.image, (16, 16), 6).image

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert draw_tiles(batch, batch.image, (40, 50), 3).image.equal(batch.image)
