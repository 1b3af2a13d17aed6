"""Gradient noise against the four-corner definition, against anomalib's implementation, and its statistics."""

import math

import numpy as np
import pytest
import torch
from anomalib.data.utils.generators.perlin import generate_perlin_noise

from anomalib_plus.transforms.gradient_noise import draw_gradient_noise, gradient_noise
from anomalib_plus.transforms.rotation import rotate_where


def four_corners(cells: list[int], angles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One map by the book, in double precision: gradient times offset at four corners, interpolated."""

    def fade(t: np.ndarray) -> np.ndarray:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    y, x = (np.arange(length) * number / length for length, number in zip(size, cells, strict=True))
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    fraction_y, fraction_x = (y - row)[:, None], (x - column)[None]

    def corner(down: int, right: int) -> np.ndarray:
        angle = angles[(row + down)[:, None], (column + right)[None]]
        return np.cos(angle) * (fraction_x - right) + np.sin(angle) * (fraction_y - down)

    top = corner(0, 0) + (corner(0, 1) - corner(0, 0)) * fade(fraction_x)
    bottom = corner(1, 0) + (corner(1, 1) - corner(1, 0)) * fade(fraction_x)
    return math.sqrt(2) * (top + (bottom - top) * fade(fraction_y))


@pytest.mark.parametrize("size", [(256, 256), (64, 200), (33, 511)])
def test_equals_the_four_corner_form_at_mixed_scales(size: tuple[int, int]) -> None:
    cells = torch.tensor([[1, 1], [2, 32], [32, 4], [8, 16], [32, 32], [3, 7]])
    angles = torch.rand(6, 33, 33) * 2 * math.pi
    noise = gradient_noise(cells, angles, size)
    for one, own_cells, own_angles in zip(noise, cells.tolist(), angles.double().numpy(), strict=True):
        np.testing.assert_allclose(one.numpy(), four_corners(own_cells, own_angles, size), atol=2.5e-7, rtol=0)


def test_equals_anomalib_s_implementation_for_the_same_gradients() -> None:
    torch.manual_seed(3)
    expected = generate_perlin_noise(128, 128, scale=(8, 4), device=torch.device("cpu"))
    torch.manual_seed(3)
    angles = torch.zeros(1, 33, 33)
    angles[0, :9, :5] = math.pi / 2 - 2 * math.pi * torch.rand(9, 5)  # anomalib measures from the vertical axis
    noise = gradient_noise(torch.tensor([[8, 4]]), angles, (128, 128))
    torch.testing.assert_close(noise[0], expected, atol=2e-6, rtol=0)


def test_lattice_points_beyond_the_cells_have_no_influence() -> None:
    angles = torch.rand(1, 33, 33)
    changed = angles.clone()
    changed[:, 5:] += 1
    changed[:, :, 3:] += 1
    cells = torch.tensor([[4, 2]])
    torch.testing.assert_close(gradient_noise(cells, angles, (64, 64)), gradient_noise(cells, changed, (64, 64)))


def test_too_few_lattice_points_are_refused() -> None:
    with pytest.raises(ValueError, match="8 cells need 9 lattice lines, the angles have 8"):
        gradient_noise(torch.tensor([[8, 4]]), torch.zeros(1, 8, 8), (64, 64))


def test_statistics_of_the_thresholded_noise() -> None:
    """FEAR section 3: range within [-1, 1], 5.4 % coverage and 5.5 % empty masks at threshold 0.5."""
    maps = torch.cat([draw_gradient_noise(100, (256, 256), (0, 5)).half() for _ in range(8)])
    assert maps.abs().max() <= 1.01
    assert maps.abs().max() > 0.9
    blobs = maps > 0.5
    assert 0.05 <= blobs.float().mean() <= 0.06
    assert 0.03 <= blobs.flatten(1).any(1).logical_not().float().mean() <= 0.08


def test_scales_are_the_powers_of_two_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "anomalib_plus.transforms.gradient_noise.gradient_noise", lambda cells, *_: seen.append(cells) or cells
    )
    draw_gradient_noise(4000, (32, 32), (0, 5))
    values, counts = seen[0].unique(return_counts=True)
    assert values.tolist() == [1, 2, 4, 8, 16, 32]
    assert counts.min() > 0.8 * 8000 / 6
    assert not torch.equal(seen[0][:, 0], seen[0][:, 1])  # drawn per axis


def test_autocast_leaves_the_noise_alone() -> None:
    plain = draw_gradient_noise(2, (64, 64), (2, 5), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = draw_gradient_noise(2, (64, 64), (2, 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain, cast, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_noise_on_every_device() -> None:
    host = draw_gradient_noise(8, (256, 256), (0, 5), "cpu", torch.Generator().manual_seed(0))
    device = draw_gradient_noise(8, (256, 256), (0, 5), "cuda", torch.Generator().manual_seed(0))
    torch.testing.assert_close(device.cpu(), host, rtol=0, atol=5e-7)


def test_rotated_noise_stays_in_range() -> None:
    noise = draw_gradient_noise(8, (96, 64), (0, 5)).unsqueeze(1)
    everyone = torch.ones(8, dtype=torch.bool)
    assert rotate_where(everyone, noise, torch.linspace(-90, 90, 8), highest=2).abs().max() <= 1.01
