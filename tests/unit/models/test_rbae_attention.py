"""Reference attention and feature fusion: closed forms, invariances and the naive form as reference."""

import io

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from anomalib_plus.models.rbae.repair import (
    FeatureFusion,
    FeatureRepair,
    attend_to_reference,
    attention_sharpness,
    from_patches,
    paper_patch_sizes,
    to_patches,
)


def naive_attention(features: Tensor, reference: Tensor, patch_size: int, temperature: float) -> Tensor:
    """Patch by patch as in the paper, with all weights in one matrix."""

    def cut(maps: Tensor) -> list[Tensor]:
        k = patch_size
        rows, columns = (range(0, side, k) for side in maps.shape[-2:])
        return [maps[:, row : row + k, column : column + k] for row in rows for column in columns]

    repaired = torch.zeros_like(features)
    for image, output in zip(features, repaired, strict=True):
        clean = cut(reference[0])
        for patch, target in zip(cut(image), cut(output), strict=True):
            similarity = torch.stack([F.cosine_similarity(patch.flatten(), b.flatten(), dim=0) for b in clean])
            weights = torch.softmax(similarity / temperature, dim=0)
            target.copy_(sum(w * b for w, b in zip(weights, clean, strict=True)))
    return repaired


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
@pytest.mark.parametrize(("patch_size", "reference_size"), [(2, (8, 12)), (4, (8, 12)), (2, (6, 4)), (4, (16, 8))])
def test_agrees_with_the_naive_form(patch_size: int, reference_size: tuple[int, int], temperature: float) -> None:
    features, reference = torch.randn(2, 5, 8, 12), torch.randn(1, 5, *reference_size)
    expected = naive_attention(features, reference, patch_size, temperature)
    actual = attend_to_reference(features, reference, patch_size, temperature)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_two_patches_at_temperature_one() -> None:
    features = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    reference = torch.eye(2).view(1, 2, 1, 2)
    expected = torch.tensor([0.731059, 0.268941]).view(1, 2, 1, 1)
    torch.testing.assert_close(attend_to_reference(features, reference, 1), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.05, 1e-4])
@pytest.mark.parametrize("patch_size", [2, 4])
def test_equal_reference_patches_are_the_output_whatever_the_input(patch_size: int, temperature: float) -> None:
    patch = torch.rand(1, 3, patch_size, patch_size)
    reference = patch.repeat(1, 1, 16 // patch_size, 8 // patch_size)
    features = torch.randn(2, 3, 8, 8) * 10
    expected = patch.repeat(2, 1, 8 // patch_size, 8 // patch_size)
    torch.testing.assert_close(attend_to_reference(features, reference, patch_size, temperature), expected)


def test_order_of_the_reference_patches_does_not_matter() -> None:
    features, reference = torch.randn(2, 3, 8, 8), torch.randn(1, 3, 8, 8)
    patches = to_patches(reference, 2)
    shuffled = from_patches(patches[:, torch.randperm(16)], 2, (8, 8))
    expected = attend_to_reference(features, reference, 2, 0.1)
    torch.testing.assert_close(attend_to_reference(features, shuffled, 2, 0.1), expected)


@pytest.mark.parametrize("patch_size", [2, 4])
def test_the_reference_itself_is_found_at_a_low_temperature(patch_size: int) -> None:
    reference = torch.rand(1, 4, 16, 16)
    repaired = attend_to_reference(reference, reference, patch_size, 1e-4)
    torch.testing.assert_close(repaired, reference, atol=1e-3, rtol=0)


def test_length_of_a_patch_does_not_matter_and_zeros_are_no_problem() -> None:
    features, reference = torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8)
    expected = attend_to_reference(features, reference, 2, 0.1)
    torch.testing.assert_close(attend_to_reference(7 * features, reference, 2, 0.1), expected)
    mean_patch = to_patches(reference, 2).mean(dim=1).expand(16, -1)[None]
    zeros = attend_to_reference(torch.zeros_like(features), reference, 2, 0.1)
    torch.testing.assert_close(zeros, from_patches(mean_patch, 2, (8, 8)))


@pytest.mark.parametrize("patch_size", [2, 4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_cutting_and_joining_is_exact(patch_size: int, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.randn(2, 6, 8, 12).contiguous(memory_format=layout)
    assert torch.equal(from_patches(to_patches(features, patch_size), patch_size, (8, 12)), features)


def test_patches_of_unequal_sides() -> None:
    features, reference = torch.randn(2, 5, 8, 12), torch.randn(1, 5, 8, 12)
    patches = to_patches(features, (4, 2))
    assert torch.equal(patches[:, 7], features[:, :, 4:8, 2:4].flatten(1))
    assert torch.equal(from_patches(patches, (4, 2), (8, 12)), features)
    # Stretched to squares, every row twice, the cosines are equal.
    expected = attend_to_reference(*(maps.repeat_interleave(2, dim=3) for maps in (features, reference)), 4, 0.1)
    torch.testing.assert_close(attend_to_reference(features, reference, (4, 2), 0.1), expected[..., ::2])


def test_equal_sizes_are_attended_to_once(monkeypatch: pytest.MonkeyPatch) -> None:
    repair = FeatureRepair(6, paper_patch_sizes(4), temperature=0.1, hidden_channels=4)
    features, calls = torch.randn(1, 6, 16, 16), []
    monkeypatch.setattr(
        "anomalib_plus.models.rbae.repair.attend_to_reference",
        lambda *args: calls.append(args[2]) or attend_to_reference(*args),
    )
    repair(features, features)
    assert calls == [(1, 1)]
    repair(torch.randn(1, 6, 64, 64), features)
    assert calls[1:] == [(2, 2), (4, 4)]


def test_sizes_that_the_patch_does_not_divide_are_filled_up_with_the_border() -> None:
    features, reference = torch.randn(1, 3, 6, 10), torch.randn(1, 3, 5, 7)
    filled, filled_reference = (
        F.pad(maps, (0, columns, 0, rows), mode="replicate")
        for maps, rows, columns in ((features, 2, 2), (reference, 3, 1))
    )
    expected = attend_to_reference(filled, filled_reference, 4, 0.1)[..., :6, :10]
    assert torch.equal(attend_to_reference(features, reference, 4, 0.1), expected)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_a_fused_kernel_does_the_work(channels_last: bool, count: int) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features, reference = (torch.rand(n, 4, 8, 8).contiguous(memory_format=layout) for n in (count, 1))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.no_grad():  # raises if it cannot
        attend_to_reference(features, reference, 2)


def test_sharpness_runs_from_one_to_the_number_of_patches() -> None:
    reference = torch.randn(1, 16, 8, 8)
    assert attention_sharpness(reference, reference, 2, 1e4).item() == pytest.approx(1, abs=1e-3)
    assert attention_sharpness(reference, reference, 2, 1e-4).item() == pytest.approx(16, abs=1e-3)
    weights = torch.softmax(
        F.normalize(to_patches(reference, 2), dim=-1)[0] @ F.normalize(to_patches(reference, 2), dim=-1)[0].T / 0.1, -1
    )
    expected = weights.amax(1).mean() * 16
    torch.testing.assert_close(attention_sharpness(reference, reference, 2, 0.1), expected)


class Attention(nn.Module):
    """The function as an exportable module, with the reference as a constant."""

    def __init__(self, reference: Tensor) -> None:
        super().__init__()
        self.register_buffer("reference", reference)

    def forward(self, features: Tensor) -> Tensor:
        return attend_to_reference(features, self.reference, 2, 0.1)


def test_onnx_agrees() -> None:
    module, features = Attention(torch.randn(1, 4, 8, 12)).eval(), torch.randn(2, 4, 8, 8)
    exported = io.BytesIO()
    torch.onnx.export(module, (features,), dynamo=True, verbose=False).save(exported)
    session = onnxruntime.InferenceSession(exported.getvalue(), providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {session.get_inputs()[0].name: features.numpy()})
    torch.testing.assert_close(torch.from_numpy(actual), module(features), atol=1e-5, rtol=0)


def test_weights_of_the_fusion_sum_to_one() -> None:
    weights = FeatureFusion(6, 3, 4).weights(torch.randn(2, 3, 6, 8, 8) * 5)
    assert weights.shape == (2, 3, 6, 8, 8)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 6, 8, 8))


def test_fusion_without_weights_is_the_mean() -> None:
    fusion = FeatureFusion(6, 3, 4)
    nn.init.zeros_(fusion.excite.weight)
    nn.init.zeros_(fusion.excite.bias)
    branches = [torch.randn(2, 6, 8, 8) for _ in range(3)]
    torch.testing.assert_close(fusion(branches), sum(branches) / 3)


def test_fusion_squeezes_the_sum_and_has_one_convolution_per_branch() -> None:
    """The three last convolutions are held as one: each branch has its own third of it."""
    fusion = FeatureFusion(6, 3, 4).eval()
    branches = [torch.randn(2, 6, 8, 8) for _ in range(3)]
    hidden = fusion.squeeze(sum(branches))
    scores = [
        F.conv2d(hidden, weight, bias, padding=2)
        for weight, bias in zip(fusion.excite.weight.chunk(3), fusion.excite.bias.chunk(3), strict=True)
    ]
    expected = sum(w * b for w, b in zip(torch.stack(scores).softmax(0), branches, strict=True))
    torch.testing.assert_close(fusion(branches), expected, atol=1e-5, rtol=1e-5)


def test_repair_fuses_the_features_with_one_repaired_version_per_patch_size() -> None:
    repair = FeatureRepair(6, (2, 4), temperature=0.1, hidden_channels=4)
    nn.init.zeros_(repair.fusion.excite.weight)
    nn.init.zeros_(repair.fusion.excite.bias)
    features, reference = torch.randn(2, 6, 8, 8), torch.randn(1, 6, 8, 8)
    versions = [attend_to_reference(features, reference, size, 0.1) for size in (2, 4)]
    torch.testing.assert_close(repair(features, reference), (features + sum(versions)) / 3)


def test_repair_attends_in_full_precision_under_autocast() -> None:
    repair = FeatureRepair(6, (2,), temperature=0.01, hidden_channels=4)
    seen: list[Tensor] = []
    repair.fusion.register_forward_pre_hook(lambda _, args: seen.extend(args[0]))
    features, reference = torch.randn(1, 6, 8, 8), torch.randn(1, 6, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        repair(features, reference)
    assert torch.equal(seen[0], attend_to_reference(features, reference, 2, 0.01))
