"""The TSDN network: size of its parts, what each switch changes, what runs and what is exported."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from anomalib_plus.models.tsdn.anomaly_map import AnomalyMapGenerator
from anomalib_plus.models.tsdn.torch_model import TSDNModel, encoder_stages

SMALL: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "pre_trained": False,
    "bottleneck_width": 16,
    "decoder_widths": (16, 8, 8, 8, 4),
    "fne_width": 4,
    "fne_hidden_widths": (16,),
    "fne_size": 2,
}


def small(**arguments: Any) -> TSDNModel:
    return TSDNModel(**{**SMALL, **arguments})


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def calls_of_mask_decoder(model: TSDNModel, images: torch.Tensor) -> int:
    calls = []
    model.mask_decoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        model(images)
    return len(calls)


@pytest.fixture(scope="module")
def paper_size() -> TSDNModel:
    with torch.device("meta"):
        return TSDNModel(pre_trained=False).train()


def test_parameters(paper_size: TSDNModel) -> None:
    assert count(paper_size.encoder) == 27_288_112
    assert count(paper_size.reduce) == 131_328
    assert count(paper_size.mask_decoder) == 3_041_873
    assert count(paper_size.estimator) == 2_253_888
    assert count(paper_size.image_decoder) == 3_042_163
    assert count(paper_size) == 35_757_364
    with torch.device("meta"):
        without_skips = TSDNModel(**{**SMALL, "backbone": "test_efficientnet"}, skip_mode="none")
        paper_width = TSDNModel(backbone="test_efficientnet", pre_trained=False, skip_mode="none")
    assert count(paper_width.image_decoder) == 2_532_979
    assert count(without_skips.image_decoder) < count(paper_width.image_decoder)


def test_multiplications(paper_size: TSDNModel) -> None:
    """Those of the mask decoder are not spent on inference: 9.06 G remain of 12.38."""
    with FlopCounterMode(display=False) as counter:
        paper_size(torch.rand(1, 3, 352, 352, device="meta"))
    flops = {name: sum(kinds.values()) / 2e9 for name, kinds in counter.get_flop_counts().items()}
    expected = {"encoder": 5.680, "reduce": 0.016, "mask_decoder": 3.319, "estimator": 0.011, "image_decoder": 3.354}
    for part, giga in expected.items():
        assert flops[f"TSDNModel.{part}"] == pytest.approx(giga, abs=6e-4), part
    assert flops["TSDNModel"] == pytest.approx(12.38, abs=5e-3)
    assert flops["TSDNModel"] - flops["TSDNModel.mask_decoder"] == pytest.approx(9.06, abs=5e-3)


def test_shapes_at_the_papers_size(paper_size: TSDNModel) -> None:
    images = torch.rand(2, 3, 352, 352, device="meta")
    features, skips = paper_size.encode(images)
    assert features.shape == (2, 256, 11, 11)
    shapes = [None if skip is None else tuple(skip.shape[1:]) for skip in skips]
    assert shapes == [(176, 22, 22), (64, 44, 44), (40, 88, 88), (24, 176, 176), None]
    output = paper_size(images)
    assert output.reconstruction.shape == (2, 3, 352, 352)
    assert output.mask.shape == (2, 1, 352, 352)
    assert output.normality.shape == (2, 256)


@pytest.mark.parametrize(("size", "grid"), [((256, 256), (8, 8)), ((320, 416), (10, 13))], ids=str)
def test_other_sizes_run(size: tuple[int, int], grid: tuple[int, int]) -> None:
    model = small(fne_size=11).train()
    output = model(torch.rand(1, 3, *size))
    assert output.features.shape[-2:] == grid
    assert output.reconstruction.shape[-2:] == size
    with torch.inference_mode():
        assert model.eval()(torch.rand(1, 3, *size)).anomaly_map.shape == (1, 1, *size)


@pytest.mark.parametrize(
    ("backbone", "skips"),
    [("test_resnet", 4), ("test_convnext", 3), ("test_byobnet", 4), ("vgg11", 4), ("mambaout_femto", 3)],
)
def test_other_backbones_run(backbone: str, skips: int) -> None:
    """ConvNeXt has no map at half the size, VGG has one at full size, MambaOut's maps have their channels last."""
    with torch.device("meta" if backbone in {"vgg11", "mambaout_femto"} else "cpu"):
        model = small(backbone=backbone).train()
        output = model(torch.rand(2, 3, 64, 96))
    assert (
        sum(skip is not None for skip in model.encode(torch.rand(1, 3, 64, 64, device=output.mask.device))[1]) == skips
    )
    assert output.reconstruction.shape == (2, 3, 64, 96)


def test_stages_are_found_by_their_stride() -> None:
    assert encoder_stages("tf_efficientnet_b5.aa_in1k") == {2: 0, 4: 1, 8: 2, 16: 3, 32: 4}
    assert encoder_stages("test_convnext") == {4: 0, 8: 1, 16: 2, 32: 3}
    assert encoder_stages("vgg11") == {2: 1, 4: 2, 8: 3, 16: 4, 32: 5}


def test_network_normalises_for_its_encoder() -> None:
    model = small().eval()
    seen: list[torch.Tensor] = []
    model.encoder.network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        model(images)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0], (images - mean.view(3, 1, 1)) / std.view(3, 1, 1))


def test_weights_of_one_gate_nothing() -> None:
    gated, ungated = small().eval(), small(gate="none").eval()
    torch.nn.init.zeros_(gated.estimator.layers[-1].weight)
    torch.nn.init.constant_(gated.estimator.layers[-1].bias, 100.0)
    ungated.load_state_dict(gated.state_dict(), strict=False)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(gated(images).anomaly_map, ungated(images).anomaly_map)


def test_weights_of_zero_leave_nothing_of_the_image() -> None:
    model = small(skip_mode="none")
    torch.nn.init.zeros_(model.estimator.layers[-1].weight)
    torch.nn.init.constant_(model.estimator.layers[-1].bias, -1000.0)
    model.train()
    with torch.no_grad():
        first, second = model(torch.rand(2, 3, 64, 64)), model(torch.rand(2, 3, 64, 64))
    assert torch.equal(first.reconstruction, second.reconstruction)
    assert not torch.equal(first.features, second.features)


def test_mask_gate_keeps_what_the_mask_leaves() -> None:
    """1 - M, averaged over the image area of each location."""
    model = small(gate="mask").train()
    seen: list[torch.Tensor] = []
    model.image_decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = model(torch.rand(2, 3, 64, 96))
    shrunk = torch.nn.functional.interpolate(output.mask, (2, 3), mode="area")
    torch.testing.assert_close(seen[0], output.features * (1 - shrunk))


def test_channel_gate_weighs_whole_channels() -> None:
    model = small().train()
    seen: list[torch.Tensor] = []
    model.image_decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = model(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(seen[0], output.features * output.normality.sigmoid().view(2, 16, 1, 1))


@pytest.mark.parametrize(
    ("skip_mode", "mask_has", "image_has"),
    [("none", 0, 0), ("anomaly", 4, 0), ("both", 4, 4), ("masked", 4, 4)],
)
def test_skip_mode_says_which_decoder_has_skips(skip_mode: str, mask_has: int, image_has: int) -> None:
    model = small(skip_mode=skip_mode).train()
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        return lambda _, args: seen.update({name: sum(skip is not None for skip in args[1])})

    model.mask_decoder.register_forward_pre_hook(note("mask"))
    model.image_decoder.register_forward_pre_hook(note("image"))
    model(torch.rand(2, 3, 64, 64))
    assert seen == {"mask": mask_has, "image": image_has}


def test_masked_skips_are_multiplied_by_the_complement() -> None:
    model = small(skip_mode="masked").train()
    seen: dict[str, Any] = {}
    model.mask_decoder.register_forward_pre_hook(lambda _, args: seen.update(whole=args[1]))
    model.image_decoder.register_forward_pre_hook(lambda _, args: seen.update(masked=args[1]))
    mask = model(torch.rand(2, 3, 64, 64)).mask
    for whole, masked in zip(seen["whole"][:-1], seen["masked"][:-1], strict=True):
        shrunk = torch.nn.functional.interpolate(mask, whole.shape[-2:], mode="area")
        torch.testing.assert_close(masked, whole * (1 - shrunk))


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ({}, 0),
        ({"gate": "none"}, 0),
        ({"gate": "mask"}, 1),
        ({"skip_mode": "masked"}, 1),
        ({"skip_mode": "anomaly"}, 0),
        ({"map_generator": AnomalyMapGenerator(map_type="msgms")}, 0),
        ({"map_generator": AnomalyMapGenerator(map_type="mask")}, 1),
        ({"map_generator": AnomalyMapGenerator(map_type="msgms+mask")}, 1),
    ],
    ids=str,
)
def test_decoder_of_the_mask_runs_in_evaluation_only_where_it_is_needed(arguments: dict, calls: int) -> None:
    model = small(**arguments)
    assert model.evaluation_needs_mask == bool(calls)
    assert calls_of_mask_decoder(model.eval(), torch.rand(2, 3, 64, 64)) == calls
    assert calls_of_mask_decoder(model.train(), torch.rand(2, 3, 64, 64)) == 1


@pytest.mark.parametrize(
    ("arguments", "decoders"),
    [
        ({}, {"image"}),
        ({"gate": "mask"}, {"image", "mask"}),
        ({"map_generator": AnomalyMapGenerator(map_type="mask")}, {"mask"}),
        ({"map_generator": AnomalyMapGenerator(map_type="msgms+mask")}, {"image", "mask"}),
    ],
    ids=["color", "mask as gate", "mask as map", "both as map"],
)
def test_decoders_are_exported_only_where_they_are_needed(arguments: dict, decoders: set[str]) -> None:
    program = torch.export.export(small(**arguments).eval(), (torch.rand(2, 3, 64, 64),))
    used = {
        program.graph_signature.inputs_to_parameters[node.name]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.users and node.name in program.graph_signature.inputs_to_parameters
    }
    assert {part for part in ("image", "mask") if any(name.startswith(f"{part}_decoder") for name in used)} == decoders


def test_switches_leave_no_unused_part() -> None:
    assert small(gate="none").estimator is None
    assert small(gate="mask").estimator is None
    assert small(gate="none", use_mask_decoder=False).mask_decoder is None


def test_frozen_encoder_stays_in_evaluation_mode() -> None:
    model = small(freeze_encoder=True).train()
    assert not any(module.training for module in model.encoder.modules())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert model.reduce.training
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model(torch.rand(2, 3, 64, 64)).reconstruction.sum().backward()
    torch.testing.assert_close(dict(model.encoder.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(64, 48), (70, 64), (32, 32)])
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"divisible by 32 .*at least 64 .*got {size[0]}x{size[1]}\. Resize to 64x64"):
        small()(torch.rand(1, 3, *size))


def test_an_image_smaller_than_the_blur_is_refused() -> None:
    model = small(map_generator=AnomalyMapGenerator(sigma=20))
    with pytest.raises(ValueError, match=r"at least 81 pixels, got 64x64\. Resize to 96x96"):
        model(torch.rand(1, 3, 64, 64))


def test_a_batch_of_one_image_trains_at_the_smallest_size() -> None:
    assert small().train()(torch.rand(1, 3, 64, 64)).reconstruction.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"use_mask_decoder": False}, "gate='fne' needs the mask decoder"),
        ({"use_mask_decoder": False, "gate": "mask"}, "gate='mask' needs the mask decoder"),
        ({"use_mask_decoder": False, "gate": "none", "skip_mode": "masked"}, "skip_mode='masked' needs"),
        ({"use_mask_decoder": False, "gate": "none", "skip_mode": "anomaly"}, "skip_mode='anomaly' needs"),
        ({"gate": "soft"}, "gate must be one of fne, mask, none"),
        ({"skip_mode": "all"}, "skip_mode must be one of both, masked, anomaly, none"),
        ({"decoder_widths": (16, 8)}, r"decoder_widths must have 5 entries.*divides the size by 32"),
        ({"bottleneck_width": 0}, "must be positive"),
        ({"backbone": "no_such_network"}, "timm has no network backbone='no_such_network'"),
    ],
)
def test_impossible_networks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)
