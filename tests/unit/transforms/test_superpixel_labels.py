"""Label maps are SLICO's, never collapse, and fall back to Voronoi cells of the right points."""

import numpy as np
import pytest
from skimage import data
from skimage.measure import label as connected_components
from skimage.transform import resize

from anomalib_plus.transforms.superpixel_labels import jittered_grid, superpixel_labels, voronoi_labels


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return resize(data.astronaut(), (352, 352), anti_aliasing=True).astype(np.float32)


def test_about_400_connected_superpixels_of_17_pixels_across_on_a_photo(photo: np.ndarray) -> None:
    labels = superpixel_labels(photo, n_segments=400, min_segments=100)
    assert labels.dtype == np.int16
    areas = np.bincount(labels.ravel())
    assert 360 <= len(areas) <= 440
    assert areas.min() > 0
    assert 16 < np.sqrt(areas.mean()) < 19
    assert connected_components(labels, background=-1, connectivity=1).max() == len(areas)


def test_superpixels_follow_the_image_better_than_a_grid_does(photo: np.ndarray) -> None:
    def spread_within(labels: np.ndarray) -> float:
        counts = np.bincount(labels.ravel())
        means = np.stack(
            [np.bincount(labels.ravel(), channel.ravel()) / counts for channel in photo.transpose(2, 0, 1)]
        )
        return float(((photo - means.T[labels]) ** 2).mean())

    grid = voronoi_labels(jittered_grid(352, 352, 20, seed=0), 352, 352)
    assert spread_within(superpixel_labels(photo, 400, 100)) < 0.8 * spread_within(grid)


def test_white_noise_does_not_collapse_as_plain_slic_does() -> None:
    noise = np.random.default_rng(0).random((352, 352, 3), dtype=np.float32)
    assert superpixel_labels(noise, 400, 100).max() + 1 >= 380


def test_too_few_superpixels_become_the_cells_of_a_grid_that_depends_on_the_image_alone() -> None:
    first, second = np.random.default_rng(0).random((2, 64, 96, 3), dtype=np.float32)
    labels = superpixel_labels(first, n_segments=380, min_segments=10_000)
    assert labels.max() + 1 == 400  # ceil(sqrt(380)) ** 2
    assert np.array_equal(labels, superpixel_labels(first.copy(), 380, 10_000))
    assert not np.array_equal(labels, superpixel_labels(second, 380, 10_000))


def test_voronoi_labels_agree_with_a_search_over_all_points() -> None:
    points = jittered_grid(31, 47, points_per_side=5, seed=3)
    labels = voronoi_labels(points, 31, 47)
    for y in range(31):
        for x in range(47):
            assert labels[y, x] == np.hypot(points[:, 0] - y - 0.5, points[:, 1] - x - 0.5).argmin()


def test_grid_points_lie_in_the_middle_half_of_their_cells() -> None:
    points = jittered_grid(100, 200, points_per_side=4, seed=0).reshape(4, 4, 2)
    for row in range(4):
        for column in range(4):
            assert np.all(np.abs(points[row, column] - (25 * row + 12.5, 50 * column + 25)) <= (6.25, 12.5))


def test_points_that_are_nearest_to_no_pixel_leave_no_gap_in_the_labels() -> None:
    labels = voronoi_labels(jittered_grid(8, 8, points_per_side=20, seed=0), 8, 8)
    assert np.array_equal(np.unique(labels), np.arange(64))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (32, 32), (33, 127), (32, 512)])
def test_labels_have_no_gaps_at_any_size(size: tuple[int, int]) -> None:
    for image in (np.zeros((*size, 3), np.float32), np.random.default_rng(0).random((*size, 3), dtype=np.float32)):
        labels = superpixel_labels(image, 400, 100)
        assert labels.shape == size
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


@pytest.mark.parametrize("value", [-2.1, 2.6, 255.0, np.nan, np.inf])
def test_values_far_from_the_unit_range_are_refused(value: float) -> None:
    image = np.full((32, 32, 3), 0.5, np.float32)
    image[3, 4, 1] = value
    with pytest.raises(ValueError, match=r"RGB images in \[0, 1\].*normalise"):
        superpixel_labels(image, 400, 100)


def test_more_superpixels_than_16_bits_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_segments=40000 gives \d+ superpixels"):
        superpixel_labels(np.random.default_rng(0).random((200, 200, 3), dtype=np.float32), 40_000, 100)
