"""The focal loss of logits against closed forms and kornia."""

import kornia
import pytest
import torch
import torch.nn.functional as F

from anomalib_plus.layers.focal import binary_focal_loss


@pytest.mark.parametrize(("probability", "loss"), [(0.9, 0.00105361), (0.5, 0.173287), (0.1, 1.865093)])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_closed_forms(probability: float, loss: float, label: float) -> None:
    logit = torch.logit(torch.tensor(probability)) * (2 * label - 1)
    assert binary_focal_loss(logit, torch.tensor(label)).item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_agrees_with_kornia(gamma: float) -> None:
    logits, mask = torch.randn(2, 1, 16, 16), (torch.rand(2, 1, 16, 16) < 0.3).float()
    reference = kornia.losses.binary_focal_loss_with_logits(logits, mask, alpha=None, gamma=gamma, reduction="mean")
    torch.testing.assert_close(binary_focal_loss(logits, mask, gamma), reference, rtol=1e-4, atol=1e-6)


def test_without_focus_it_is_the_cross_entropy() -> None:
    logits, mask = torch.randn(50), (torch.rand(50) < 0.3).float()
    expected = F.binary_cross_entropy_with_logits(logits, mask)
    torch.testing.assert_close(binary_focal_loss(logits, mask, gamma=0), expected)


def test_alpha_weighs_the_classes() -> None:
    logits, mask = torch.randn(50), (torch.rand(50) < 0.3).float()
    anomalous, normal = binary_focal_loss(logits, mask, alpha=1.0), binary_focal_loss(logits, mask, alpha=0.0)
    torch.testing.assert_close(anomalous + normal, binary_focal_loss(logits, mask))
    torch.testing.assert_close(binary_focal_loss(logits, mask, alpha=0.25), 0.25 * anomalous + 0.75 * normal)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_badly_wrong_logits_keep_a_finite_gradient_unless_the_probability_is_bounded(logit: float) -> None:
    logits = torch.tensor([logit], requires_grad=True)
    mask = torch.tensor([float(logit < 0)])
    loss = binary_focal_loss(logits, mask)
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert abs(logits.grad.item()) == pytest.approx(1, abs=1e-4)
    bounded = binary_focal_loss(logits.detach(), mask, smallest_probability=1e-5)
    assert bounded.item() == pytest.approx(11.5129, abs=1e-4)
