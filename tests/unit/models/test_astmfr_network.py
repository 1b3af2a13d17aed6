"""The networks of AstMFR: counts, shapes, masks, what is frozen and what is trained."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anomalib_plus.models.astmfr.torch_model import AstMFRModel, RegenerationBlock, draw_mask

WIDE, NEXT, FIFTY = "wide_resnet50_2.tv_in1k", "resnext50_32x4d.tv_in1k", "resnet50.tv_in1k"
TRAINED = {NEXT: 33_211_200, WIDE: 49_638_720, FIFTY: 33_319_488}
TEACHER = 24_862_528


def small(**arguments: Any) -> AstMFRModel:
    return AstMFRModel(**{"teacher": "test_resnet", "student": "test_efficientnet", "pre_trained": False, **arguments})


def at_paper_size(**arguments: Any) -> AstMFRModel:
    """A model without memory or numbers."""
    with torch.device("meta"):
        return AstMFRModel(pre_trained=False, **arguments)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("student", TRAINED)
def test_parameters_are_those_of_table_5(student: str) -> None:
    """Its ResNet-50 row (36.3 M) is a misprint: the same counting gives 33.3 M."""
    model = at_paper_size(student=student)
    assert sum(parameter.numel() for parameter in model.trained_parameters) == TRAINED[student]
    assert count(model.teacher) == TEACHER
    assert count(model) == TRAINED[student] + TEACHER
    assert count(model.blocks) == 24_776_192


def test_multiply_adds_of_the_convolutions_are_those_of_table_5() -> None:
    model = at_paper_size().train()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, 3, 256, 256, device="meta"))
    giga = {name: sum(kinds.values()) / 2e9 for name, kinds in counter.get_flop_counts().items()}
    assert giga["AstMFRModel.teacher"] == pytest.approx(11.9989, abs=1e-4)
    assert giga["AstMFRModel.student"] == pytest.approx(4.3925, abs=1e-4)
    assert [giga[f"AstMFRModel.blocks.{level}"] for level in range(3)] == pytest.approx([4.832] * 3, abs=1e-3)
    assert giga["AstMFRModel"] == pytest.approx(30.887, abs=1e-3)


def test_feature_shapes() -> None:
    model = at_paper_size().train()
    images = torch.rand(1, 3, 256, 256, device="meta")
    expected = [(1, 256, 64, 64), (1, 512, 32, 32), (1, 1024, 16, 16)]
    assert [tuple(features.shape) for features in model.teacher(images)] == expected
    assert [tuple(features.shape) for features in model.student(images)] == expected
    assert not [name for name, _ in model.named_parameters() if "layer4" in name or "fc" in name]


def test_block_is_two_convolutions_with_bias() -> None:
    kinds = [type(layer) for layer in RegenerationBlock(4, 6)]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert {name: tuple(p.shape) for name, p in RegenerationBlock(4, 6).named_parameters()} == {
        "0.weight": (6, 4, 3, 3),
        "0.bias": (6,),
        "2.weight": (6, 6, 3, 3),
        "2.bias": (6,),
    }


def test_student_with_other_channels() -> None:
    model = at_paper_size(student="resnet18.tv_in1k")
    assert [tuple(block[0].weight.shape) for block in model.blocks] == [
        (256, 64, 3, 3),
        (512, 128, 3, 3),
        (1024, 256, 3, 3),
    ]
    output = model.train()(torch.rand(2, 3, 64, 64, device="meta"))
    assert [features.shape for features in output.student] == [features.shape for features in output.teacher]


def test_student_with_other_strides_is_resized_to_the_teacher() -> None:
    model = small(student="test_resnet", student_layers=("layer2", "layer3", "layer4")).train()
    output = model(torch.rand(2, 3, 64, 64))
    assert [tuple(f.shape[-2:]) for f in output.student] == [(16, 16), (8, 8), (4, 4)]
    assert model.size_divisor == 32


@pytest.mark.parametrize(
    ("layers", "student", "expected"),
    [
        (None, "tf_efficientnet_lite0", (24, 40, 112)),
        (("layer1", "layer2"), "test_resnet", (32, 48)),
        (("layer1", "layer2"), "test_convnext", (24, 32)),
        ((2, 3), "test_efficientnet", (32, 48)),
    ],
    ids=str,
)
def test_stages_of_the_student_follow_the_teachers(layers: Any, student: str, expected: tuple[int, ...]) -> None:
    assert small(layers=layers, student=student).student.channels == expected


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_mask_hides_the_share_asked_for(rate: float) -> None:
    mask = draw_mask((4, 64, 64), rate, torch.Generator().manual_seed(0))
    assert mask.shape == (4, 1, 64, 64)
    assert mask.float().mean().item() == pytest.approx(1 - rate, abs=0.012 if rate == 0.5 else 0)


def test_masks_differ_between_samples_levels_and_steps_and_are_one_over_channels() -> None:
    model = small(student="test_resnet", mask_rate=0.5).train()
    model.student.forward = lambda images: [torch.ones(2, c, 16, 16) for c in (32, 48, 192)]
    seen: list[torch.Tensor] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    sizes = [torch.Size((16, 16))] * 3
    for _ in range(2):
        model.student_features(torch.rand(2, 3, 64, 64), sizes)
    masks = [features[:, :1] for features in seen]
    assert all(torch.equal(features, mask.expand_as(features)) for features, mask in zip(seen, masks, strict=True))
    assert all(set(mask.unique().tolist()) == {0, 1} for mask in masks)
    maps = [image for mask in masks for image in mask]
    assert not any(torch.equal(maps[i], maps[j]) for i in range(len(maps)) for j in range(i))


def test_masks_come_from_the_generator() -> None:
    model = small(student="test_nfnet").train()  # no statistics or dropout that differ between calls
    images = torch.rand(2, 3, 64, 64)
    first, second, other = (
        model(images, torch.Generator().manual_seed(seed)).student[0].detach() for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("regenerate", [False, (False, False, False)], ids=str)
def test_levels_without_a_block_are_compared_directly(regenerate: Any) -> None:
    equal = small(student="test_resnet", regenerate=regenerate).train()
    assert count(equal.blocks) == 0
    images = torch.rand(2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(equal(images).student, equal.student(images), strict=True)), (
        "neither masked nor changed"
    )
    aligned = small(regenerate=regenerate)
    shapes = [tuple(block.weight.shape) if count(block) else None for block in aligned.blocks]
    assert shapes == [(32, 24, 1, 1), (48, 32, 1, 1), (192, 48, 1, 1)]
    assert all(getattr(block, "bias", None) is None for block in aligned.blocks)


def test_each_level_can_be_chosen() -> None:
    model = small(regenerate=(True, False, True))
    assert [isinstance(block, RegenerationBlock) for block in model.blocks] == [True, False, True]


def test_evaluation_repeats_and_knows_no_masks() -> None:
    model, other = small(mask_rate=0.9).eval(), small(mask_rate=0.1).eval()
    other.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 64)
    outputs = [network(images) for network in (model, model, other)]
    for output in outputs[1:]:
        assert torch.equal(output.anomaly_map, outputs[0].anomaly_map)
        assert torch.equal(output.pred_score, outputs[0].pred_score)


def test_identical_networks_find_nothing() -> None:
    """Without blocks, a student that equals its teacher in evaluation mode is at distance zero."""
    model = small(student="test_resnet", regenerate=False).eval()
    model.student.load_state_dict(model.teacher.state_dict())
    assert model(torch.rand(1, 3, 64, 64)).pred_score.item() == 0


def test_a_step_moves_the_student_and_leaves_the_teacher() -> None:
    model = small().train()
    assert not model.teacher.training
    assert model.student.training
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.trained_parameters)
    output = model(torch.rand(4, 3, 64, 64))
    sum((s - t).square().mean() for s, t in zip(output.student, output.teacher, strict=True)).backward()
    optimizer.step()
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith("teacher.")}
    assert all(not p.requires_grad and p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.trained_parameters), "a parameter outside the loss stops DDP"


def test_teacher_features_can_be_given() -> None:
    model = small(student="test_nfnet", mask_rate=0).train()
    images = torch.rand(2, 3, 64, 64)
    model.teacher.register_forward_pre_hook(lambda *_: pytest.fail("computed again"))
    given = [torch.rand(2, 32, 16, 16), torch.rand(2, 48, 8, 8), torch.rand(2, 192, 4, 4)]
    assert all(a is b for a, b in zip(model(images, teacher_features=given).teacher, given, strict=True))


def test_the_same_pretrained_network_twice_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    arguments = {"teacher": "test_resnet", "student": "test_resnet", "teacher_weights": file, "student_weights": file}
    with pytest.warns(UserWarning, match="almost nothing to learn"):
        AstMFRModel(**arguments, regenerate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        AstMFRModel(**arguments)
        AstMFRModel(**arguments | {"student_weights": None}, regenerate=False, student_pretrained=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_rate": 1.5}, r"mask_rate must lie in \[0, 1\]"),
        ({"regenerate": (True, False)}, "regenerate needs one value for each of 3 levels"),
        ({"student_layers": (1, 2)}, "equal lengths, got 3 and 2"),
        ({"layers": ("layer9",)}, "teacher='test_resnet' has no stage 'layer9'"),
        ({"student": "no_such_network"}, "no network student='no_such_network'"),
        ({"student_layers": ("layer1",)}, "student='test_efficientnet' has no stage"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)
