"""GMS, MSGMS and SSIM against closed forms and another library's values."""

import kornia
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from anomalib_plus.layers.similarity import (
    GMS_CONSTANT,
    gms_distance_map,
    gms_distances_per_scale,
    gms_map,
    gradient_magnitude,
    msgms_distance_map,
    ssim_map,
)

STEP_GMS = GMS_CONSTANT / (1 + GMS_CONSTANT)  # where one image has gradient 1 and the other none


@pytest.fixture
def step_and_flat() -> tuple[torch.Tensor, torch.Tensor]:
    """A 256x256 image that jumps from 0 to 1 at column 128, and a flat one."""
    step = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
    step[..., 128:] = 1
    return step, torch.zeros_like(step)


def waves_with_black_frame() -> tuple[torch.Tensor, torch.Tensor]:
    """An image pair whose frame is black, so that every way of padding gives the same gradients."""
    y, x = torch.meshgrid(torch.arange(48.0).double(), torch.arange(64.0).double(), indexing="ij")
    reference = torch.stack([0.5 + 0.4 * torch.sin(x / 5 + k) * torch.cos(y / (3 + k)) for k in range(3)])
    distorted = (reference + 0.1 * torch.sin(x * y / 50)).clamp(0, 1)
    frame = torch.zeros(48, 64, dtype=torch.float64)
    frame[2:-2, 2:-2] = 1
    return (reference * frame)[None], (distorted * frame)[None]


def test_constant_is_170_scaled_to_unit_range() -> None:
    assert pytest.approx(0.002614379, abs=1e-9) == GMS_CONSTANT


def test_gradient_of_a_step_is_one_on_the_two_columns_that_touch_it(step_and_flat) -> None:
    magnitude = gradient_magnitude(step_and_flat[0])[0, 0]
    expected = torch.zeros_like(magnitude)
    expected[:, 127:129] = 1
    torch.testing.assert_close(magnitude, expected, atol=2e-6, rtol=0)


def test_gms_of_step_against_flat(step_and_flat) -> None:
    gms = gms_map(*step_and_flat)[0, 0]
    edge = torch.zeros_like(gms, dtype=torch.bool)
    edge[:, 127:129] = True
    torch.testing.assert_close(gms[edge], torch.full((512,), STEP_GMS, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(gms[~edge], torch.ones_like(gms[~edge]), atol=1e-8, rtol=0)
    assert gms.mean().item() == pytest.approx(0.99220787, abs=1e-6)
    assert gms.var(correction=0).item() == pytest.approx(0.00771109, abs=1e-6)
    assert gms.std(correction=0).item() == pytest.approx(0.08781283, abs=1e-6)


def test_msgms_per_scale_of_step_against_flat(step_and_flat) -> None:
    distances = [distance.mean().item() for distance in gms_distances_per_scale(*step_and_flat)]
    assert distances == pytest.approx([0.0077921, 0.0155843, 0.0311685, 0.0623370], abs=1e-5)
    assert sum(distances) / 4 == pytest.approx(0.0292205, abs=1e-5)


def test_gms_distance_is_one_minus_gms_and_never_negative() -> None:
    pair = waves_with_black_frame()
    torch.testing.assert_close(gms_distance_map(*pair), 1 - gms_map(*pair), atol=1e-12, rtol=0)
    image = torch.rand(2, 3, 64, 64)
    assert gms_distance_map(image, 1 - image).min() >= 0


def test_msgms_map_averages_the_resized_scales() -> None:
    reference, distorted = waves_with_black_frame()
    expected = sum(
        F.interpolate(distance, size=(48, 64), mode="bilinear", align_corners=False)
        for distance in gms_distances_per_scale(reference, distorted)
    )
    torch.testing.assert_close(msgms_distance_map(reference, distorted), expected / 4)


def test_gms_deviation_agrees_with_piq() -> None:
    """Values of piq 0.8.0, ``piq.gmsd._gmsd(x, y, t=170 / 255**2)`` per channel of this image pair."""
    deviation = gms_map(*waves_with_black_frame()).std(dim=(-2, -1), correction=0)[0]
    assert deviation.tolist() == pytest.approx([0.11637985, 0.12467883, 0.12754884], abs=1e-6)


def test_gms_of_two_ramps_is_constant_and_below_one() -> None:
    """The blind spot of a deviation: the variance of a constant similarity is 0."""
    ramp = (torch.arange(256.0).double() / 255).expand(1, 1, 256, 256)
    half = ramp / 2
    slope_1, slope_2 = 0.5 / 255, 1 / 255
    expected = (8 * slope_1 * slope_2 + GMS_CONSTANT) / (4 * slope_1**2 + 4 * slope_2**2 + GMS_CONSTANT)
    interior = gms_map(half, ramp)[..., 1:-1]
    assert expected == pytest.approx(0.9942857, abs=1e-7)
    torch.testing.assert_close(interior, torch.full_like(interior, expected), atol=1e-6, rtol=0)
    assert interior.var().item() < 1e-12
    border = gradient_magnitude(ramp)[..., 0]
    torch.testing.assert_close(border, torch.full_like(border, 1 / 255), atol=1e-6, rtol=0)


@pytest.mark.parametrize("function", [gms_map, ssim_map, msgms_distance_map])
def test_similarities_are_symmetric(function) -> None:
    reference, distorted = waves_with_black_frame()
    torch.testing.assert_close(function(reference, distorted), function(distorted, reference))


def test_equal_images_are_fully_similar() -> None:
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(gms_map(image, image), torch.ones_like(image))
    assert not msgms_distance_map(image, image).any()
    torch.testing.assert_close(ssim_map(image, image), torch.ones_like(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("a", "b", "expected"), [(0.0, 1.0, 9.999e-5), (0.5, 0.6, 0.98361)])
def test_ssim_of_constants(a: float, b: float, expected: float) -> None:
    ones = torch.ones(1, 1, 32, 32, dtype=torch.float64)
    assert ssim_map(a * ones, b * ones).mean().item() == pytest.approx(expected, abs=1e-5)


def test_ssim_agrees_with_scikit_image_away_from_the_border() -> None:
    reference, distorted = (image[:, :1] for image in waves_with_black_frame())
    _, expected = structural_similarity(
        reference[0, 0].numpy(),
        distorted[0, 0].numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    actual = ssim_map(reference, distorted)[0, 0, 5:-5, 5:-5]
    torch.testing.assert_close(actual, torch.from_numpy(expected)[5:-5, 5:-5], atol=1e-6, rtol=0)


def test_ssim_agrees_with_kornia_up_to_the_border_in_values_and_gradients() -> None:
    reference, distorted = torch.rand(2, 3, 40, 24).double(), torch.rand(2, 3, 40, 24).double().requires_grad_()
    expected = kornia.metrics.ssim(reference, distorted, window_size=11)
    actual = ssim_map(reference, distorted)
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=0)
    gradients = [torch.autograd.grad(values.mean(), distorted)[0] for values in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_the_gpu() -> None:
    first, second = torch.rand(2, 2, 3, 64, 64, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        ssim_map(first, second)
        msgms_distance_map(first, second)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_too_small_for_the_scales_are_refused() -> None:
    assert len(gms_distances_per_scale(torch.rand(1, 1, 8, 9), torch.rand(1, 1, 8, 9), 4)) == 4
    with pytest.raises(ValueError, match="8x9 pixels are too small for 5 scales"):
        gms_distances_per_scale(torch.rand(1, 1, 8, 9), torch.rand(1, 1, 8, 9), 5)


def test_gradient_is_finite_on_a_flat_image() -> None:
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    gms_map(torch.rand(1, 3, 32, 32), flat).sum().backward()
    assert flat.grad.isfinite().all()
