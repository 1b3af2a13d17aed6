"""The three loss terms of RAMFAE: closed forms, weights, gradients."""

import pytest
import torch

from anomalib_plus.models.ramfae.loss import RamFAELoss, gmsd_loss, ssim_loss


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)


def test_step_against_flat() -> None:
    step = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
    step[..., 128:] = 1
    flat = torch.zeros_like(step)
    assert gmsd_loss(step, flat).item() == pytest.approx(0.00771109, abs=1e-6)
    assert gmsd_loss(step, flat, form="std").item() == pytest.approx(0.08781283, abs=1e-6)


def test_ssim_loss_of_black_against_white_has_no_half() -> None:
    black = torch.zeros(1, 3, 32, 32)
    assert ssim_loss(black, black + 1).item() == pytest.approx(0.99990, abs=1e-4)


def test_gmsd_is_taken_per_image_and_channel(pair) -> None:
    clean, other = pair
    single = [gmsd_loss(clean[i : i + 1, c : c + 1], other[i : i + 1, c : c + 1]) for i in range(2) for c in range(3)]
    torch.testing.assert_close(gmsd_loss(clean, other), torch.stack(single).mean())


def test_equal_images_cost_nothing() -> None:
    image = torch.rand(2, 3, 32, 32)
    loss = RamFAELoss()(image, image)
    assert loss.total.item() == pytest.approx(0, abs=1e-5)
    assert loss.terms["gmsd"].item() == 0
    assert loss.terms["l2"].item() == 0


def test_loss_is_symmetric(pair) -> None:
    clean, other = pair
    torch.testing.assert_close(RamFAELoss()(clean, other).total, RamFAELoss()(other, clean).total)


@pytest.mark.parametrize(
    ("weights", "term"), [((1, 0, 0), "gmsd"), ((0, 1, 0), "ssim"), ((0, 0, 1), "l2")], ids=["gmsd", "ssim", "l2"]
)
def test_zero_weights_skip_their_terms(pair, weights: tuple[float, ...], term: str) -> None:
    loss = RamFAELoss(*weights)(*pair)
    assert list(loss.terms) == [term]
    torch.testing.assert_close(loss.total, RamFAELoss()(*pair).terms[term])


def test_total_is_the_weighted_sum(pair) -> None:
    loss = RamFAELoss(0.5, 2.0, 3.0)(*pair)
    expected = 0.5 * loss.terms["gmsd"] + 2 * loss.terms["ssim"] + 3 * loss.terms["l2"]
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.terms["l2"], (pair[0] - pair[1]).square().mean())


def test_gray_compares_the_mean_of_the_channels(pair) -> None:
    clean, other = pair
    gray = RamFAELoss(channel_reduction="gray")(other, clean)
    expected = ssim_loss(clean.mean(1, keepdim=True), other.mean(1, keepdim=True))
    torch.testing.assert_close(gray.terms["ssim"], expected)
    torch.testing.assert_close(gray.terms["l2"], (clean - other).square().mean())


@pytest.mark.parametrize("form", ["variance", "std"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_gradients_are_finite_for_constant_reconstructions(form: str, value: float) -> None:
    reconstruction = torch.full((1, 3, 32, 32), value, requires_grad=True)
    RamFAELoss(gmsd_form=form)(reconstruction, torch.rand(1, 3, 32, 32)).total.backward()
    assert reconstruction.grad.isfinite().all()
    equal = torch.full((1, 3, 32, 32), value, requires_grad=True)
    RamFAELoss(gmsd_form=form)(equal, equal.detach()).total.backward()
    assert equal.grad.isfinite().all()


def test_autocast_does_not_touch_the_loss(pair) -> None:
    expected = RamFAELoss()(*pair).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = RamFAELoss()(*pair).total
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 1)])
def test_useless_weights_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="loss weights"):
        RamFAELoss(*weights)


def test_a_constant_that_divides_by_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="gms_constant must be positive, got 0"):
        RamFAELoss(gms_constant=0.0)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="gmsd_loss must be one of variance, std, got 'mad'"):
        RamFAELoss(gmsd_form="mad")
