"""The losses of RB-AE: closed forms, weights, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anomalib_plus.models.rbae.loss import (
    RbAELoss,
    discrimination_loss,
    normalized_residual,
    repair_loss,
    segmentation_loss,
)
from anomalib_plus.models.rbae.torch_model import EncodingOutput, RbAEModel, RepairOutput

TINY = (4, 4, 8, 8, 8)


@pytest.fixture
def repair_output() -> RepairOutput:
    features = [torch.rand(2, 4, 16, 16, requires_grad=True), torch.rand(2, 4, 8, 8, requires_grad=True)]
    targets = [torch.rand(2, 4, 16, 16, requires_grad=True), torch.rand(2, 4, 8, 8, requires_grad=True)]
    logits = [torch.randn(2, 1, size, size, requires_grad=True) for size in (32, 16, 8)]
    return RepairOutput(torch.rand(2, 3, 32, 32, requires_grad=True), features, targets, logits)


@pytest.fixture
def encoding_output() -> EncodingOutput:
    clean, defective = ([torch.rand(2, 4, 32 >> i, 32 >> i) for i in range(5)] for _ in range(2))
    return EncodingOutput(torch.rand(2, 3, 32, 32), clean, defective)


@pytest.fixture
def clean() -> Tensor:
    return torch.rand(2, 3, 32, 32)


@pytest.fixture
def mask() -> Tensor:
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 3:9, 20:21] = 1
    return mask


def test_discrimination_by_hand() -> None:
    residual = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    clean = torch.zeros(1, 3, 2, 2)
    defective = residual.sqrt().expand(1, 3, 2, 2)
    mask = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    expected = torch.tensor([[0.0, 0.25], [0.5, 1.0]]).view(1, 1, 2, 2)
    torch.testing.assert_close(normalized_residual(clean, defective), expected)
    assert discrimination_loss([clean], [defective], mask).item() == pytest.approx(0.078125, abs=1e-6)


def test_residual_is_stretched_per_image() -> None:
    clean, defective = torch.rand(3, 4, 8, 8), torch.rand(3, 4, 8, 8)
    defective[1] = clean[1] + 100 * (defective[1] - clean[1])
    stretched = normalized_residual(clean, defective).flatten(1)
    torch.testing.assert_close(stretched.amin(1), torch.zeros(3))
    torch.testing.assert_close(stretched.amax(1), torch.ones(3))


def test_a_constant_residual_costs_the_mean_of_the_mask_and_has_no_nan() -> None:
    clean, mask = torch.rand(1, 3, 8, 8), (torch.rand(1, 1, 8, 8) < 0.3).float()
    defective = clean.clone().requires_grad_()
    loss = discrimination_loss([clean], [defective], mask)
    loss.backward()
    assert loss.item() == pytest.approx(mask.mean().item())
    assert torch.equal(defective.grad, torch.zeros_like(defective))


def test_untouched_images_in_one_batch_leave_no_residual() -> None:
    """Batch statistics of two separate batches would give equal pixels different features."""
    model = RbAEModel(TINY).train()
    images = torch.rand(3, 3, 32, 32)
    output = model(images, images)
    for clean, defective in zip(output.clean_features, output.defective_features, strict=True):
        assert torch.equal(clean, defective)
    loss = discrimination_loss(output.clean_features, output.defective_features, torch.zeros(3, 1, 32, 32))
    assert loss.item() == 0


def test_both_images_learn_from_the_discrimination(mask: Tensor) -> None:
    clean, defective = (torch.rand(2, 4, 8, 8, requires_grad=True) for _ in range(2))
    discrimination_loss([clean], [defective], mask).backward()
    assert clean.grad.abs().sum() > 0
    assert defective.grad.abs().sum() > 0


def test_masks_are_resized_by_their_maxima_so_that_a_scratch_survives() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 5, 5] = 1
    hit = torch.full((1, 1, 4, 4), -50.0)
    hit[0, 0, 0, 0] = 50
    assert segmentation_loss([hit], mask).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss([-hit], mask).item() > 40


def test_segmentation_is_the_mean_over_the_layers(mask: Tensor) -> None:
    undecided = [torch.zeros(2, 1, size, size) for size in (32, 16, 8)]
    assert segmentation_loss(undecided, mask).item() == pytest.approx(0.25 * math.log(2), abs=1e-6)
    wrong = [undecided[0] - 1e3, *undecided[1:]]
    expected = (1000 * mask.mean() + 2 * 0.25 * math.log(2)) / 3
    assert segmentation_loss(wrong, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_repair_is_the_mean_over_the_layers(repair_output: RepairOutput) -> None:
    repaired, clean = repair_output.repaired_features, repair_output.clean_features
    expected = (F.mse_loss(repaired[0], clean[0]) + F.mse_loss(repaired[1], clean[1])) / 2
    torch.testing.assert_close(repair_loss(repaired, clean), expected)


def test_total_of_phase_one(encoding_output: EncodingOutput, clean: Tensor, mask: Tensor) -> None:
    loss = RbAELoss()(encoding_output, clean, mask, lambda a, b: (a - b).abs().mean())
    assert set(loss.terms) == {"reconstruction", "discrimination", "perceptual"}
    expected = 100 * loss.terms["reconstruction"] + loss.terms["discrimination"] + loss.terms["perceptual"]
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.terms["reconstruction"], F.mse_loss(encoding_output.reconstruction, clean))


def test_total_of_phase_two(repair_output: RepairOutput, clean: Tensor, mask: Tensor) -> None:
    weights = {"reconstruction_weight": 3.0, "perceptual_weight": 0.0, "repair_weight": 5.0, "segmentation_weight": 7.0}
    loss = RbAELoss(**weights)(repair_output, clean, mask, lambda a, b: (a - b).abs().mean())
    assert set(loss.terms) == {"reconstruction", "repair", "segmentation"}
    terms = loss.terms
    torch.testing.assert_close(
        loss.total, 3 * terms["reconstruction"] + 5 * terms["repair"] + 7 * terms["segmentation"]
    )


@pytest.mark.parametrize(
    ("weight", "term"),
    [("discrimination_weight", "discrimination"), ("repair_weight", "repair"), ("segmentation_weight", "segmentation")],
)
def test_a_weight_of_zero_skips_its_term(
    weight: str, term: str, encoding_output: EncodingOutput, repair_output: RepairOutput, clean: Tensor, mask: Tensor
) -> None:
    loss = RbAELoss(**{weight: 0.0})
    terms = {**loss(encoding_output, clean, mask).terms, **loss(repair_output, clean, mask).terms}
    assert terms.keys() == {"reconstruction", "discrimination", "repair", "segmentation"} - {term}


def test_terms_of_parts_that_are_not_there_are_skipped(clean: Tensor, mask: Tensor) -> None:
    for output in (EncodingOutput(clean, [], []), RepairOutput(clean, [], [], [])):
        loss = RbAELoss()(output, clean, mask)
        assert loss.terms.keys() == {"reconstruction"}
        assert loss.total.item() == 0


def test_autocast_does_not_touch_the_loss(repair_output: RepairOutput, clean: Tensor, mask: Tensor) -> None:
    expected = RbAELoss()(repair_output, clean, mask).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = RbAELoss()(repair_output, clean, mask).total
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reconstruction_weight": 0}, "reconstruction_weight must be positive .* got reconstruction_weight=0,"),
        ({"perceptual_weight": -1}, "no other weight negative, got .* perceptual_weight=-1,"),
        ({"discrimination_weight": -1}, "no other weight negative, got .* discrimination_weight=-1,"),
        ({"repair_weight": -1}, "no other weight negative, got .* repair_weight=-1,"),
        ({"segmentation_weight": -1}, "no other weight negative, got .* segmentation_weight=-1"),
        ({"focal_gamma": -1}, "focal_gamma must be 0 or at least 1, got -1"),
        ({"focal_gamma": 0.5}, "focal_gamma must be 0 or at least 1, got 0.5"),
        ({"focal_alpha": 1.5}, r"focal_alpha must be None or lie in \[0, 1\], got 1.5"),
    ],
    ids=str,
)
def test_useless_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RbAELoss(**arguments)
