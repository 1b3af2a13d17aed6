"""The distance of AstMFR: closed forms, precision, gradients; and the loss made of it."""

import math

import pytest
import torch
import torch.nn.functional as F

from anomalib_plus.models.astmfr.loss import AstMFRLoss, feature_distance


def vector(*components: float) -> torch.Tensor:
    """Features (1, C, 1, 1)."""
    return torch.tensor(components, dtype=torch.float32).view(1, -1, 1, 1)


CASES = {
    "(3, 4) and (4, 3)": (vector(3, 4), vector(4, 3), 0.04),
    "(1, 0) and (1, 1)": (vector(1, 0), vector(1, 1), 1 - math.sqrt(0.5)),
    "orthogonal": (vector(1, 0), vector(0, 2), 1.0),
    "opposite": (vector(1, 2), vector(-1, -2), 2.0),
    "parallel, 7 times as long": (vector(1, 2, 3), vector(7, 14, 21), 0.0),
    "60 degrees": (vector(1, 0), vector(0.5, math.sqrt(0.75)), 0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_both_distances_are_one_number(case: str) -> None:
    student, teacher, expected = CASES[case]
    cosine = 1 - F.cosine_similarity(student, teacher).item()
    assert feature_distance(student, teacher).item() == pytest.approx(expected, abs=1e-6)
    assert cosine == pytest.approx(expected, abs=1e-6)
    assert AstMFRLoss()([student], [teacher]).total.item() == pytest.approx(2 * expected, abs=2e-6)


def test_gradients_are_those_of_the_cosine_plus_those_of_the_squared_distance() -> None:
    student, teacher = torch.randn(2, 8, 5, 4), torch.randn(2, 8, 5, 4)
    ours, reference = student.clone().requires_grad_(), student.clone().requires_grad_()
    AstMFRLoss()([ours], [teacher]).total.backward()
    cosine = (1 - F.cosine_similarity(reference, teacher)).mean()
    squared = (F.normalize(reference) - F.normalize(teacher)).square().sum(1).mean() / 2
    (cosine + squared).backward()
    torch.testing.assert_close(ours.grad, reference.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("shift", [1e-2, 1e-4])
def test_small_distances_are_precise(shift: float) -> None:
    """At 5e-5 to 5e-9, where 1 - cosine in float32 is off by 3e-5 or is noise."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, 64, 8, 8, dtype=torch.float64, generator=generator)
    student = (teacher + shift * torch.randn(teacher.shape, dtype=torch.float64, generator=generator)).float()
    teacher = teacher.float()
    exact = (F.normalize(student.double()) - F.normalize(teacher.double())).square().sum(1, keepdim=True) / 2
    torch.testing.assert_close(feature_distance(student, teacher).double(), exact, rtol=1e-3 * 1e-4 / shift, atol=0)


def test_scale_does_not_matter() -> None:
    student, teacher = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    expected = AstMFRLoss()([student], [teacher]).total
    torch.testing.assert_close(AstMFRLoss()([10 * student], [teacher]).total, expected)
    torch.testing.assert_close(AstMFRLoss()([student], [0.1 * teacher]).total, expected)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 3.0), (0.0, 1.5), (5.0, 9.0)])
def test_sum_over_levels_and_mean_over_locations(weight: float, expected: float) -> None:
    """Three levels of unequal size, half the locations orthogonal, half parallel."""
    students, teachers = [], []
    for size in (8, 4, 2):
        student, teacher = torch.zeros(2, 2, size, size), torch.zeros(2, 2, size, size)
        student[:, 0], teacher[:, 0] = 1, 1
        student[:, :, : size // 2] = torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)
        students.append(student)
        teachers.append(teacher)
    loss = AstMFRLoss(weight)(students, teachers)
    assert loss.total.item() == pytest.approx(expected, abs=1e-6)
    assert {name: term.item() for name, term in loss.terms.items()} == pytest.approx(
        {"level1": 0.5, "level2": 0.5, "level3": 0.5}, abs=1e-6
    )


def test_zero_vectors_have_a_finite_distance_and_gradient() -> None:
    student = torch.zeros(1, 4, 2, 2, requires_grad=True)
    distance = feature_distance(student, torch.rand(1, 4, 2, 2))
    distance.sum().backward()
    torch.testing.assert_close(distance, torch.full_like(distance, 0.5))
    assert student.grad.isfinite().all()


def test_autocast_does_not_touch_the_loss() -> None:
    students, teachers = [torch.randn(2, 16, 8, 8)], [torch.randn(2, 16, 8, 8)]
    expected = AstMFRLoss()(students, teachers).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = AstMFRLoss()(students, teachers).total
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=0, rtol=0)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"l2_weight must not be negative, got -1"):
        AstMFRLoss(-1)
