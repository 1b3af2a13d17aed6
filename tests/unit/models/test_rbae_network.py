"""The RB-AE network: counts, shapes, phases, and what each of them touches."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anomalib_plus.models.rbae.loss import RbAELoss
from anomalib_plus.models.rbae.repair import attend_to_reference
from anomalib_plus.models.rbae.torch_model import EncodingOutput, RbAEModel, RepairOutput

TABLE_5: dict[str, dict[str, Any]] = {
    "A": {},
    "B": {"use_rbam": False},
    "C": {"use_pixel_discrimination": False},
    "D": {"discriminator": "pixel"},
    "E": {"discriminator": "msfr"},
    "F": {"discriminator": "ssim"},
}
SIZE = 64


def small(**arguments: Any) -> RbAEModel:
    return RbAEModel(**{"widths": (4, 4, 8, 8, 8), "fusion_width": 4, "fdm_width": 4, **arguments})


def in_phase_2(**arguments: Any) -> RbAEModel:
    model = small(**arguments)
    model.enter_phase_2(torch.rand(1, 3, SIZE, SIZE))
    return model


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Top-level parts with a parameter or buffer that is no longer what it was."""
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def step(model: RbAEModel, parameters: Iterable[nn.Parameter] | None = None) -> None:
    """One step of Adam on images with a grey square."""
    model.train()
    clean = torch.rand(2, 3, SIZE, SIZE)
    mask = torch.zeros(2, 1, SIZE, SIZE)
    mask[:, :, 8:24, 30:50] = 1
    optimizer = torch.optim.Adam(parameters or model.parameters(), lr=1e-3, weight_decay=1e-2)
    RbAELoss()(model(torch.where(mask > 0, 0.5, clean), clean), clean, mask).total.backward()
    optimizer.step()


def test_parameters_of_the_paper_size() -> None:
    with torch.device("meta"):
        model = RbAEModel()
    assert [count(layer) for layer in model.encoder.layers] == [38_848, 221_696, 885_760, 3_540_992, 4_720_640]
    assert count(model.encoder) == 9_407_936
    assert [count(repair) for repair in model.repair.values()] == [1_639_296, 3_278_464, 3_278_464]
    assert count(model.decoder) == 7_824_835
    assert [count(layer) for layer in model.discrimination.layers] == [63_841, 72_033, 88_417]
    assert count(model) == 25_653_286


def test_work_and_buffers_of_the_paper_size() -> None:
    model = RbAEModel().eval()
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        images = torch.rand(1, 3, 256, 256)
        model.enter_phase_2(images)
        with FlopCounterMode(display=False) as counter:
            model(images)
    assert counter.get_total_flops() / 2e9 == pytest.approx(60.52, abs=0.1)
    assert (
        sum(buffer.numel() for buffer in model.reference.buffers()) == 3 * 256**2 + 64**2 * 256 + 32**2 * 512 * 5 // 4
    )


def test_shapes_of_the_paper_size() -> None:
    model = RbAEModel().eval()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.enter_phase_2(torch.rand(1, 3, 256, 256))
        stages = model.inspect(torch.rand(2, 3, 256, 256))
    expected = [(64, 256, 256), (128, 128, 128), (256, 64, 64), (512, 32, 32), (512, 16, 16)]
    assert [tuple(features.shape[1:]) for features in stages.features] == expected
    assert [tuple(stages.repaired[level].shape[1:]) for level in (3, 4, 5)] == expected[2:]
    assert stages.reconstruction.shape == (2, 3, 256, 256)
    assert [tuple(maps.shape) for maps in stages.logits] == [(2, 1, 256, 256), (2, 1, 128, 128), (2, 1, 64, 64)]
    assert stages.anomaly_map.shape == (2, 1, 256, 256)


def test_strides_of_two_in_every_layer() -> None:
    model = RbAEModel(strides=(2, 2, 2, 2, 2)).eval()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.enter_phase_2(torch.rand(1, 3, 256, 256))
        stages = model.inspect(torch.rand(1, 3, 256, 256))
    assert count(model) == 25_669_798
    assert [maps.shape[-1] for maps in stages.logits] == [128, 64, 32]
    assert stages.reconstruction.shape == (1, 3, 256, 256)


def test_decoder_is_given_layers_three_to_five_in_phase_one() -> None:
    model = small().train()
    clean, images = torch.rand(2, 3, SIZE, SIZE), torch.rand(2, 3, SIZE, SIZE)
    seen: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.extend(args))
    output = model(images, clean)
    assert isinstance(output, EncodingOutput)
    assert all(torch.equal(a, b) for a, b in zip(seen, output.clean_features[2:], strict=True))


def test_repair_of_phase_two_is_compared_with_the_clean_features() -> None:
    model = in_phase_2(attention_temperature=0.1).train()
    clean, images = torch.rand(2, 3, SIZE, SIZE), torch.rand(2, 3, SIZE, SIZE)
    output = model(images, clean)
    assert isinstance(output, RepairOutput)
    expected = model.encoder(clean)
    assert all(torch.equal(a, b) for a, b in zip(output.clean_features, expected[2:], strict=True))
    assert not any(target.requires_grad for target in output.clean_features)


def test_evaluation_puts_the_parts_together_as_the_paper_does() -> None:
    """Against the parts by hand: encode, repair at layers 3 to 5, decode, encode again, compare, add up."""
    model = in_phase_2(attention_temperature=0.1, patch_sizes=(2, 4)).eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        features = model.encoder(images)
        repaired = []
        for level in (3, 4, 5):
            original, reference = features[level - 1], model.reference.features(level)
            versions = [attend_to_reference(original, reference, size, 0.1) for size in (2, 4)]
            repaired.append(model.repair[str(level)].fusion([*versions, original]))
        again = model.encoder(model.decoder(*repaired))
        expected = 0
        for index, weight in enumerate((0.2, 0.2, 0.6)):
            pair = torch.cat([features[index], again[index]], 1)
            probability = model.discrimination.layers[index](pair).sigmoid()
            expected = expected + weight * nn.functional.interpolate(probability, (SIZE, SIZE), mode="bilinear")
        actual = model(images)
    torch.testing.assert_close(actual.anomaly_map, expected)
    torch.testing.assert_close(actual.pred_score, expected.flatten(1).amax(1))


def test_phase_one_map_is_the_feature_residual_of_the_unrepaired_reconstruction() -> None:
    model = small().eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        features = model.encoder(images)
        again = model.encoder(model.decoder(*features[2:]))
        distance = sum(
            nn.functional.interpolate((a - b).square().mean(1, keepdim=True), (SIZE, SIZE), mode="bilinear")
            for a, b in zip(features[:3], again[:3], strict=True)
        )
        torch.testing.assert_close(model(images).anomaly_map, distance / (1 + distance))


def test_a_step_of_phase_one_leaves_repair_and_discrimination_alone() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    step(model)
    assert changed(model, before) == {"encoder", "decoder"}


def test_a_step_of_phase_two_leaves_the_encoder_alone_batch_statistics_included() -> None:
    model = in_phase_2()
    before = copy.deepcopy(model.state_dict())
    step(model)
    assert changed(model, before) == {"decoder", "repair", "discrimination"}
    assert not model.encoder.training
    assert model.decoder.training


def test_the_repair_loss_reaches_the_fusion_only() -> None:
    model = in_phase_2().train()
    output = model(torch.rand(2, 3, SIZE, SIZE), torch.rand(2, 3, SIZE, SIZE))
    sum(features.sum() for features in output.repaired_features).backward()
    reached = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {"repair"}


def test_the_segmentation_reaches_the_decoder_through_the_frozen_encoder() -> None:
    model = in_phase_2().train()
    output = model(torch.rand(2, 3, SIZE, SIZE), torch.rand(2, 3, SIZE, SIZE))
    sum(logits.sum() for logits in output.logits).backward()
    assert model.decoder.head[-2].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.encoder.parameters())


@pytest.mark.parametrize("row", TABLE_5)
def test_ablations_train_in_both_phases_and_predict(row: str) -> None:
    model = small(**TABLE_5[row])
    images = torch.rand(2, 3, SIZE, SIZE)
    step(model)
    model.enter_phase_2(images[:1])
    before = copy.deepcopy(model.state_dict())
    step(model)
    expected = {"decoder"} | ({"repair"} if row != "B" else set()) | ({"discrimination"} if row in "ABC" else set())
    assert changed(model, before) == expected
    output = model.eval()(images)
    assert output.anomaly_map.shape == (2, 1, SIZE, SIZE)
    assert 0 <= output.anomaly_map.min() <= output.anomaly_map.max() <= 1


def test_without_pixel_discrimination_the_encoder_sees_clean_images_only() -> None:
    model = small(use_pixel_discrimination=False).train()
    clean = torch.rand(2, 3, SIZE, SIZE)
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert model(torch.rand_like(clean), clean).defective_features == []
    assert len(seen) == 1
    assert torch.equal(seen[0], clean)


def test_levels_that_are_not_repaired_reach_the_decoder_as_they_are() -> None:
    model = in_phase_2(rbam_levels=(4,), patch_sizes=(1, 2, 4, 8)).eval()
    stages = model.inspect(torch.rand(1, 3, SIZE, SIZE))
    assert [level for level in (3, 4, 5) if not torch.equal(stages.repaired[level], stages.features[level - 1])] == [4]


def test_reference_is_what_the_frozen_encoder_makes_of_it() -> None:
    model = in_phase_2()
    step(model)
    features = model.encoder.eval()(model.reference.image)
    assert all(torch.equal(model.reference.features(level), features[level - 1]) for level in (3, 4, 5))


def test_another_reference_changes_the_repair_and_is_refused_in_phase_one() -> None:
    model = in_phase_2(attention_temperature=0.1, patch_sizes=(2, 4)).eval()
    images = torch.rand(1, 3, SIZE, SIZE)
    before = model.inspect(images).repaired
    model.set_reference(torch.rand(1, 3, 96, 32))
    after = model.inspect(images).repaired
    assert not any(torch.equal(before[level], after[level]) for level in (3, 4, 5))
    model.enter_phase_1()
    assert not model.reference.ready
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())
    with pytest.raises(RuntimeError, match="phase 2 only"):
        model.set_reference(images)


@pytest.mark.parametrize("first_phase", [1, 2])
def test_a_state_brings_phase_and_reference_whatever_the_network_had(first_phase: int) -> None:
    trained, other = in_phase_2(), small()
    if first_phase == 2:
        other.enter_phase_2(torch.rand(1, 3, 32, 96))
    other.load_state_dict(trained.state_dict())
    assert other.phase == 2
    assert not any(parameter.requires_grad for parameter in other.encoder.parameters())
    assert not other.train().encoder.training
    images = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(other.eval()(images).anomaly_map, trained.eval()(images).anomaly_map)
    other.load_state_dict(small().state_dict())
    assert (other.phase, other.reference.ready) == (1, False)
    assert other.train().encoder.training


def test_sizes_between_the_patches_work() -> None:
    """Layer 5 is 3x5: patches of 2 and 4 do not divide it."""
    model = in_phase_2().eval()
    assert model(torch.rand(1, 3, 48, 80)).anomaly_map.shape == (1, 1, 48, 80)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (4, 4, 4, 4)}, "widths must be 5"),
        ({"strides": (1, 2, 3, 2, 2)}, "strides must be 5 of 1 and 2"),
        ({"rbam_levels": (2, 3)}, "rbam_levels must be some of"),
        ({"rbam_levels": (5, 3)}, "rbam_levels must be some of"),
        ({"patch_sizes": ()}, "patch_sizes must be positive"),
        ({"attention_temperature": 0.0}, "attention_temperature must be positive"),
        ({"fusion_kernel": 4}, "fusion_kernel must be odd"),
        ({"fdm_width": 1}, "fdm_width at least 2"),
        ({"upsampling": "nearest"}, "upsampling must be one of transposed, bilinear"),
        ({"attention_temperature": float("nan")}, "attention_temperature must be positive"),
        ({"map_weights": (1.0, 1.0, 1.0)}, "map_weights must be 3 numbers"),
        ({"map_weights": (0.0, 0.0, 0.0)}, "whose sum is positive"),
        ({"discriminator": "draem"}, "discriminator must be one of msfdm, pixel, msfr, ssim"),
        ({"score_pool": 2}, "score_pool must be odd"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        RbAEModel(**arguments)


def test_phase_two_needs_a_reference() -> None:
    with pytest.raises(ValueError, match="needs a reference image"):
        small().enter_phase_2()
    model = small()
    with pytest.raises(ValueError, match="divisible by 16"):
        model.enter_phase_2(torch.rand(1, 3, 50, 50))
    assert model.phase == 1


@pytest.mark.parametrize(("upsampling", "grid"), [("transposed", True), ("bilinear", False)])
def test_only_transposed_convolutions_leave_a_grid(upsampling: str, grid: bool) -> None:
    """A constant has the same value at every location, up to the border, unless each place of a block has weights."""
    layer = small(upsampling=upsampling).decoder.upsample[0].eval()
    with torch.no_grad():
        inner = layer(torch.ones(1, 8, 6, 6))[..., 2:-2, 2:-2]
    assert layer(torch.ones(1, 8, 6, 6)).shape == (1, 8, 12, 12)
    assert bool((inner - inner[..., :1, :1]).abs().max() > 1e-3) is grid


@pytest.mark.parametrize("strides", [(1, 2, 2, 2, 2), (2, 2, 2, 2, 2)])
def test_bilinear_decoder_gives_images_of_the_same_size(strides: tuple[int, ...]) -> None:
    model = small(upsampling="bilinear", strides=strides)
    assert model.reconstruct_images(torch.rand(1, 3, SIZE, SIZE)).shape == (1, 3, SIZE, SIZE)
    assert count(model.decoder) > count(small(strides=strides).decoder)


def test_discriminators_start_at_the_share_of_anomalous_pixels() -> None:
    model = small()
    for layer in model.discrimination.layers:
        with torch.no_grad():
            assert layer[-1](torch.zeros(1, 2, 1, 1)).sigmoid().item() == pytest.approx(0.06)


@pytest.mark.parametrize("strides", [(1, 2, 2, 2, 2), (2, 2, 2, 2, 2)])
def test_patches_are_the_papers_share_of_the_image(strides: tuple[int, ...]) -> None:
    """2 and 4 locations at 256 pixels, half of them at 128; height and width by themselves; numbers as they are."""
    scaled, fixed = small(strides=strides).repair["3"], small(patch_sizes=(2, 4)).repair["3"]
    stride, sides = 4 * strides[0], {}
    for module in (scaled, fixed):
        for size in ((256, 256), (128, 128), (256, 128), (64, 64)):
            features = torch.empty(1, 8, size[0] // stride, size[1] // stride)
            sides[module, size] = [module.patch(patch, features) for patch in module.patch_sizes]
    expected = {(256, 256): [(2, 2), (4, 4)], (128, 128): [(1, 1), (2, 2)], (256, 128): [(2, 1), (4, 2)]}
    assert {size: sides[scaled, size] for size in expected} == expected
    assert sides[scaled, (64, 64)] == [(1, 1), (1, 1)]
    assert all(sides[fixed, size] == expected[256, 256] for size in expected)
