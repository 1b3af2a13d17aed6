"""The loss of FEAR: closed forms, independent references, weights."""

import math

import kornia
import pytest
import torch
import torch.nn.functional as F

from anomalib_plus.models.fear.loss import FEARLoss, focal_loss


@pytest.fixture
def prediction() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 2, 16, 16), (torch.rand(2, 1, 16, 16) < 0.3).float()


def constant(margin: float) -> torch.Tensor:
    """Logits (1, 2, 8, 8) with this much in favour of the anomaly."""
    return torch.tensor([-margin / 2, margin / 2]).view(1, 2, 1, 1).expand(1, 2, 8, 8)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_undecided_costs_the_same_for_both_classes(label: float) -> None:
    mask = torch.full((1, 1, 8, 8), label)
    assert focal_loss(constant(0), mask).item() == pytest.approx(0.25 * math.log(2), abs=1e-7)
    assert focal_loss(constant(0), mask).item() == pytest.approx(0.173287, abs=1e-6)
    assert focal_loss(constant(0), mask, gamma=0).item() == pytest.approx(0.693147, abs=1e-6)


def test_normal_pixels_count() -> None:
    """kornia's focal loss with ``alpha=1``, which anomalib's DraemLoss uses, gives 0 in both cases."""
    normal = torch.zeros(1, 1, 8, 8)
    assert focal_loss(constant(10), normal) > 5 > 1e-6 > focal_loss(constant(-10), normal)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_agrees_with_kornia_whose_mean_also_divides_by_the_classes(prediction, gamma: float) -> None:
    logits, mask = prediction
    reference = kornia.losses.FocalLoss(alpha=None, gamma=gamma, reduction="mean")(logits, mask[:, 0].long()) * 2
    torch.testing.assert_close(focal_loss(logits, mask, gamma), reference, rtol=1e-4, atol=1e-6)


def test_without_focus_it_is_the_cross_entropy(prediction) -> None:
    logits, mask = prediction
    torch.testing.assert_close(focal_loss(logits, mask, gamma=0), F.cross_entropy(logits, mask[:, 0].long()))


def test_alpha_weighs_the_classes(prediction) -> None:
    logits, mask = prediction
    per_pixel = torch.stack(
        [
            focal_loss(logits[..., row : row + 1, column : column + 1], mask[..., row : row + 1, column : column + 1])
            for row in range(16)
            for column in range(16)
        ]
    )
    assert per_pixel.mean().item() == pytest.approx(focal_loss(logits, mask).item(), rel=1e-5)
    anomalous, normal = focal_loss(logits, mask, alpha=1.0), focal_loss(logits, mask, alpha=0.0)
    torch.testing.assert_close(anomalous + normal, focal_loss(logits, mask))
    torch.testing.assert_close(focal_loss(logits, mask, alpha=0.25), 0.25 * anomalous + 0.75 * normal)


@pytest.mark.parametrize("margin", [-1e4, -200.0, 200.0, 1e4])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_extreme_logits_cost_in_proportion_and_have_gradients_where_they_are_wrong(margin: float, label: float) -> None:
    """A bound on the probability would leave a network that is badly wrong without a gradient."""
    logits = constant(margin).clone().requires_grad_()
    loss = focal_loss(logits, torch.full((1, 1, 8, 8), label))
    loss.backward()
    wrong = (margin > 0) != (label > 0)
    assert loss.item() == pytest.approx(abs(margin) if wrong else 0, rel=1e-5, abs=1e-4)
    assert logits.grad.isfinite().all()
    towards_normal, towards_anomaly = -logits.grad.sum((0, 2, 3))
    assert towards_anomaly.item() == pytest.approx((1 if label else -1) if wrong else 0, abs=1e-4)
    assert towards_normal.item() == pytest.approx(-towards_anomaly.item(), abs=1e-6)


def test_black_against_white_has_no_halved_ssim() -> None:
    black, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    loss = FEARLoss()(black + 1, torch.zeros(1, 2, 32, 32), black, mask)
    assert loss.terms["ssim"].item() == pytest.approx(0.99990, abs=1e-4)
    assert loss.terms["l2"].item() == 1
    assert loss.terms["segmentation"].item() == pytest.approx(0.173287, abs=1e-6)


def test_perfect_repair_and_segmentation_cost_nothing() -> None:
    target, mask = torch.rand(2, 3, 32, 32), (torch.rand(2, 1, 32, 32) < 0.2).float()
    logits = torch.cat([-50 * mask, 50 * mask - 25 * (1 - mask)], dim=1)
    assert FEARLoss()(target, logits, target, mask).total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_total_is_the_weighted_sum(weight: float, prediction) -> None:
    logits, mask = prediction
    target, reconstruction = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    full = FEARLoss()(reconstruction, logits, target, mask).terms
    loss = FEARLoss(ssim_weight=weight)(reconstruction, logits, target, mask)
    assert ("ssim" in loss.terms) == (weight > 0)
    torch.testing.assert_close(loss.total, weight * full["ssim"] + full["l2"] + full["segmentation"])
    torch.testing.assert_close(full["l2"], (target - reconstruction).square().mean())


def test_autocast_does_not_touch_the_loss(prediction) -> None:
    logits, mask = prediction
    target, reconstruction = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    expected = FEARLoss()(reconstruction, logits, target, mask).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = FEARLoss()(reconstruction, logits, target, mask).total
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ssim_weight": -1}, "ssim_weight must not be negative, got -1"),
        ({"focal_gamma": -1}, "focal_gamma must be 0 or at least 1, got -1"),
        ({"focal_gamma": 0.5}, "focal_gamma must be 0 or at least 1, got 0.5"),
        ({"focal_gamma": math.nan}, "focal_gamma must be 0 or at least 1, got nan"),
        ({"focal_alpha": 1.5}, r"focal_alpha must be None or lie in \[0, 1\], got 1.5"),
        ({"focal_alpha": -0.5}, r"focal_alpha must be None or lie in \[0, 1\], got -0.5"),
    ],
    ids=str,
)
def test_useless_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FEARLoss(**arguments)


def draems_focal_loss(logits: torch.Tensor, anomaly: bool) -> torch.Tensor:
    """Written as in DRAEM's code: the logarithm of the probability plus 1e-5."""
    probability = logits.softmax(dim=1)[:, int(anomaly)] + 1e-5
    return ((1 - probability) ** 2 * -probability.log()).mean()


@pytest.mark.parametrize("margin", [-11.6, -8.0, -4.0, -1.0])
@pytest.mark.parametrize("anomaly", [True, False])
def test_confident_errors_have_at_least_the_gradient_that_draems_formula_gives(margin: float, anomaly: bool) -> None:
    """A clamp of the probability, as kornia has it, leaves -2e-4 at -11.6."""
    gradients = []
    for loss in (
        lambda x: focal_loss(x, torch.full((1, 1, 8, 8), float(anomaly))),
        lambda x: draems_focal_loss(x, anomaly),
    ):
        logits = constant(margin if anomaly else -margin).clone().requires_grad_()
        loss(logits).backward()
        gradients.append(logits.grad[:, int(anomaly)].sum().item())
    ours, draems = gradients
    assert ours <= draems + 1e-4 < -0.05
    if margin >= -4:
        assert ours == pytest.approx(draems, rel=0.01)
