"""TSDN's loss terms against closed forms."""

import math

import pytest
import torch

from anomalib_plus.models.tsdn.loss import TSDNLoss, gms_distance, normality_loss, ssim_distance
from anomalib_plus.models.tsdn.torch_model import TSDNOutput


def constant(value: float) -> torch.Tensor:
    return torch.full((1, 3, 32, 32), value)


def step_image(height: float) -> torch.Tensor:
    """Columns 0 to 7 are 0, columns 8 to 15 are ``height``."""
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:] = height
    return image


@pytest.fixture
def output() -> TSDNOutput:
    """A batch of two with everything the network can give, sizes as small as they get."""
    leaves = [torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(2, 8, 2, 2), torch.randn(2, 8)]
    return TSDNOutput(*(leaf.requires_grad_() for leaf in leaves))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.2, 0.6, 1 - (2 * 0.12 + 1e-4) / (0.40 + 1e-4)),
        (0.0, 1.0, 1 - 1e-4 / (1 + 1e-4)),
        (0.3, 0.3, 0.0),
    ],
)
def test_ssim_of_constant_images(first: float, second: float, expected: float) -> None:
    """Twice what kornia's loss gives (0.1999 for 0.2 and 0.6)."""
    assert ssim_distance(constant(first), constant(second)).item() == pytest.approx(expected, abs=1e-4)


def test_gradient_similarity_of_two_steps() -> None:
    """Only the two columns at the step differ: 2 * 0.5 + c over 1 + 0.25 + c."""
    on_the_edge = (2 * 0.5 + 0.0026) / (1.25 + 0.0026)
    assert on_the_edge == pytest.approx(0.800415, abs=1e-6)
    expected = 2 / 16 * (1 - on_the_edge)
    assert expected == pytest.approx(0.024948, abs=1e-6)
    assert gms_distance(step_image(1.0), step_image(0.5)).item() == pytest.approx(expected, abs=1e-6)


def test_gradient_similarity_of_equal_images_and_of_colour() -> None:
    image = torch.rand(2, 3, 32, 32)
    assert gms_distance(image, image).item() == 0
    # Grey is the mean of the channels: swapping them changes nothing.
    assert gms_distance(image, image.flip(1)).item() == pytest.approx(0, abs=1e-6)


def test_gradient_similarity_of_several_scales_is_their_mean() -> None:
    first, second = torch.rand(2, 1, 1, 32, 32)
    halves = [torch.nn.functional.avg_pool2d(image, 2) for image in (first, second)]
    expected = (gms_distance(first, second) + gms_distance(*halves)) / 2
    torch.testing.assert_close(gms_distance(first, second, 2), expected)


@pytest.mark.parametrize("channels", [64, 256])
def test_cross_entropy_is_summed_over_channels(channels: int) -> None:
    logits, target = torch.zeros(3, channels), torch.full((3, channels), 0.5)
    assert normality_loss(logits, target).item() == pytest.approx(channels * math.log(2), rel=1e-6)
    assert normality_loss(logits, target, "mean").item() == pytest.approx(math.log(2), rel=1e-6)


def test_weight_of_the_cross_entropy_makes_it_count() -> None:
    summed = normality_loss(torch.zeros(1, 256), torch.full((1, 256), 0.5))
    assert summed.item() == pytest.approx(177.446, abs=1e-3)
    assert TSDNLoss().weights["fne"] * summed.item() == pytest.approx(0.008872, abs=1e-6)


def test_total_is_the_weighted_sum(output: TSDNOutput) -> None:
    weights = {"l2_weight": 2.0, "ssim_weight": 0.3, "gms_weight": 0.7, "mask_weight": 0.5, "fne_weight": 0.01}
    target, mask = torch.rand(2, 3, 32, 32), (torch.rand(2, 1, 32, 32) > 0.5).float()
    loss = TSDNLoss(**weights, ssim_size=16)(output, target, mask)
    assert list(loss.terms) == ["l2", "ssim", "gms", "mask", "fne"]
    expected = sum(weights[f"{name}_weight"] * term for name, term in loss.terms.items())
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.terms["l2"], (target - output.reconstruction).square().mean())
    torch.testing.assert_close(loss.terms["mask"], (mask - output.mask).square().mean())


def test_default_weights_are_the_papers() -> None:
    assert TSDNLoss().weights == {"l2": 1.0, "ssim": 0.5, "gms": 1.0, "mask": 1.0, "fne": 5e-5}


def test_the_estimators_loss_teaches_the_estimator_alone(output: TSDNOutput) -> None:
    """Its target must not move the features or the mask."""
    loss = TSDNLoss(ssim_size=16)(output, torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32))
    loss.terms["fne"].backward()
    assert output.normality.grad.abs().sum() > 0
    assert output.features.grad is None
    assert output.mask.grad is None


def test_parts_that_are_not_there_have_no_term(output: TSDNOutput) -> None:
    alone = output._replace(mask=None, normality=None)
    assert list(TSDNLoss()(alone, torch.rand(2, 3, 32, 32)).terms) == ["l2", "ssim", "gms"]
    assert list(TSDNLoss(ssim_weight=0, gms_weight=0)(alone, torch.rand(2, 3, 32, 32)).terms) == ["l2"]


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_gradients_are_finite_on_constant_images(value: float) -> None:
    target = constant(value)
    for reconstruction in (constant(value), constant(0.5)):
        reconstruction.requires_grad_()
        alone = TSDNOutput(reconstruction, None, torch.zeros(1, 4, 1, 1), None)
        TSDNLoss(gms_scales=3)(alone, target).total.backward()
        assert reconstruction.grad.isfinite().all()


def test_half_precision_is_compared_in_full(output: TSDNOutput) -> None:
    target, mask = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    half = TSDNOutput(*(value.detach().bfloat16() for value in output))
    full = TSDNOutput(*(value.float() for value in half))
    loss = TSDNLoss(ssim_size=16)
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss(half, target, mask).total
    torch.testing.assert_close(actual, loss(full, target, mask).total, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gms_weight": -1.0}, "gms_weight=-1.0"),
        ({"l2_weight": 0.0, "ssim_weight": 0.0, "gms_weight": 0.0}, "must be positive"),
        ({"gms_scales": 0}, "gms_scales"),
        ({"ssim_size": 8}, "ssim_size must be at least 11"),
        ({"fne_reduction": "max"}, "fne_reduction must be one of sum, mean"),
    ],
)
def test_impossible_losses_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TSDNLoss(**arguments)
