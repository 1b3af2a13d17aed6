"""The FEAR networks: counts, shapes, channel attention, initialisation."""

import pytest
import torch
from anomalib.models.image.draem.torch_model import DraemModel
from timm.layers import EcaModule
from torch import nn

from anomalib_plus.models.fear.torch_model import EncoderStage, FEARModel, channel_gates


def small(**arguments) -> FEARModel:
    return FEARModel(**{"reconstruction_width": 8, "segmentation_width": 4, **arguments})


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def attentions(model: nn.Module) -> list[EcaModule]:
    return [module for module in model.modules() if isinstance(module, EcaModule)]


def test_parameters_of_the_paper_size() -> None:
    with torch.device("meta"):
        model, draem = FEARModel(), DraemModel()
        assert count(FEARModel(eca_stages=())) == count(draem) == 97_422_725
    assert count(model) == 97_422_750
    assert count(model.encoder, model.decoder) == 69_048_604
    assert count(model.segmentation) == 28_374_146
    assert [count(stage) for stage in model.encoder] == [151_685, 886_277, 3_542_021, 14_161_925, 18_880_517]
    assert count(model.decoder) == 31_426_179


@pytest.mark.parametrize(
    ("widths", "parameters", "attention"),
    [((128, 64), 97_422_750, 25), ((64, 32), 24_371_932, 23), ((32, 16), 6_101_114, 21)],
    ids=str,
)
def test_parameters_per_width(widths: tuple[int, int], parameters: int, attention: int) -> None:
    with torch.device("meta"):
        model = FEARModel(*widths)
    assert count(model) == parameters
    assert count(*attentions(model)) == attention


@pytest.mark.parametrize(("stages", "weights"), [((), 0), ((5,), 5), ((1, 3), 10), ((1, 2, 3, 4, 5), 25)], ids=str)
def test_attention_sits_in_the_stages_asked_for(stages: tuple[int, ...], weights: int) -> None:
    with torch.device("meta"):
        model = FEARModel(eca_stages=stages)
    assert tuple(index for index, stage in enumerate(model.encoder, 1) if stage.attention is not None) == stages
    assert count(*attentions(model)) == weights


@pytest.mark.parametrize(
    ("channels", "kernel"), [(16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_attention_kernel_follows_the_papers_rule(channels: int, kernel: int) -> None:
    with torch.device("meta"):
        attention = FEARModel(reconstruction_width=channels, segmentation_width=1).encoder[0].attention
    assert attention.conv.kernel_size == (kernel,)


def test_attention_rule_takes_its_constants_from_the_arguments() -> None:
    with torch.device("meta"):
        model = FEARModel(128, 1, eca_gamma=1.0, eca_b=2.0)
    assert [attention.conv.kernel_size for attention in attentions(model)] == [(9,), (11,), (11,), (13,), (13,)]


def test_shapes_at_every_stage() -> None:
    model = small().train()
    shapes: dict[str, tuple[int, ...]] = {}
    watched = {f"encoder {i}": stage.block for i, stage in enumerate(model.encoder, 1)}
    watched |= {f"unet {i}": getattr(model.segmentation.encoder_segment, f"block{i}") for i in range(1, 7)}
    for name, module in watched.items():
        module.register_forward_hook(lambda *args, name=name: shapes.update({name: tuple(args[2].shape[1:])}))
    output = model(torch.rand(2, 3, 64, 96))
    assert output.reconstruction.shape == (2, 3, 64, 96)
    assert output.logits.shape == (2, 2, 64, 96)
    width, unet = (8, 16, 32, 64, 64), (4, 8, 16, 32, 32, 32)
    expected = {f"encoder {i + 1}": (channels, 64 >> i, 96 >> i) for i, channels in enumerate(width)}
    expected |= {f"unet {i + 1}": (channels, 64 >> i, 96 >> i) for i, channels in enumerate(unet)}
    assert shapes == expected


@pytest.mark.parametrize("pool", [True, False])
def test_gating_after_the_pooling_gives_the_numbers_of_gating_before(pool: bool) -> None:
    """Bitwise in the forward pass; the literal order is the reference, timm's module included."""
    block = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
    attention = EcaModule(channels=16)
    literal = nn.Sequential(block, attention, nn.MaxPool2d(2) if pool else nn.Identity())
    stage = EncoderStage(block, attention, pool)
    images = torch.rand(2, 3, 32, 32)
    weights = torch.rand_like(literal(images))
    gradients = []
    for module in (literal, stage):
        module.zero_grad()
        (module(images) * weights).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in (*block.parameters(), *attention.parameters())])
    assert torch.equal(literal(images), stage(images))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_gates_lie_between_zero_and_one_and_depend_on_the_channel_means_only() -> None:
    attention = EcaModule(channels=32)
    features = torch.randn(2, 32, 6, 10) * 5
    gates = channel_gates(attention, features)
    assert gates.shape == (2, 32, 1, 1)
    assert ((gates > 0) & (gates < 1)).all()
    shuffled = features.flatten(2)[..., torch.randperm(60)].unflatten(2, (6, 10))
    torch.testing.assert_close(channel_gates(attention, shuffled), gates)
    torch.testing.assert_close(features * gates, attention(features))


def test_attention_without_weights_halves_its_input() -> None:
    stage = EncoderStage(nn.Identity(), EcaModule(channels=16), pool=False)
    nn.init.zeros_(stage.attention.conv.weight)
    features = torch.randn(2, 16, 5, 5)
    assert torch.equal(stage(features), 0.5 * features)


def test_segmentation_sees_the_image_and_then_its_reconstruction() -> None:
    model = small().train()
    seen: list[torch.Tensor] = []
    model.segmentation.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.rand(2, 3, 32, 32)
    reconstruction = model(images).reconstruction
    assert torch.equal(seen[0], torch.cat([images, reconstruction], dim=1))


@pytest.mark.parametrize("detached", [False, True])
def test_gradient_of_the_segmentation_reaches_the_autoencoder_unless_detached(detached: bool) -> None:
    model = FEARModel(8, 8, detach_reconstruction=detached).train()
    model(torch.rand(2, 3, 64, 64)).logits.sum().backward()
    reached = [parameter.grad is not None for part in (model.encoder, model.decoder) for parameter in part.parameters()]
    assert all(reached) if not detached else not any(reached)
    assert all(parameter.grad is not None for parameter in model.segmentation.parameters())


def test_autoencoder_without_attention_is_draems() -> None:
    """Same weights, same reconstruction and logits as anomalib's networks in sequence."""
    model = small(eca_stages=()).train()
    draem = DraemModel().train()
    draem.reconstructive_subnetwork = type(draem.reconstructive_subnetwork)(base_width=8)
    draem.discriminative_subnetwork = model.segmentation
    blocks = draem.reconstructive_subnetwork.encoder
    for index, stage in enumerate(model.encoder, 1):
        setattr(blocks, f"block{index}", stage.block)
    draem.reconstructive_subnetwork.decoder = model.decoder
    images = torch.rand(2, 3, 64, 64)
    for expected, actual in zip(draem(images), model(images), strict=True):
        torch.testing.assert_close(actual, expected)


def test_initialisation_is_draems() -> None:
    torch.manual_seed(0)
    model = FEARModel(32, 16)
    convolution = model.encoder[4].block[0]
    assert convolution.weight.mean().item() == pytest.approx(0, abs=1e-4)
    assert convolution.weight.std().item() == pytest.approx(0.02, rel=0.01)
    scales = torch.cat([layer.weight for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)])
    assert scales.mean().item() == pytest.approx(1, abs=2e-3)
    assert scales.std().item() == pytest.approx(0.02, rel=0.1)
    default = FEARModel(32, 16, init_std=None)
    assert default.encoder[4].block[0].weight.abs().max() <= 1 / (256 * 9) ** 0.5  # PyTorch's uniform bound
    assert (default.encoder[4].block[1].weight == 1).all()


@pytest.mark.parametrize("size", [(64, 48), (100, 64)])
def test_size_that_does_not_divide_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"divisible by 32 .* got {size[0]}x{size[1]}\. Resize to"):
        small()(torch.rand(1, 3, *size))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reconstruction_width": 0}, "segmentation_width must be positive"),
        ({"eca_stages": (0, 1)}, "eca_stages must be some of"),
        ({"eca_stages": (6,)}, "eca_stages must be some of"),
        ({"eca_gamma": 0.0}, "eca_gamma must be positive, got 0"),
        ({"eca_gamma": -2.0}, "eca_gamma must be positive, got -2"),
        ({"init_std": -0.02}, "init_std must not be negative .*, got -0.02"),
    ],
)
def test_impossible_networks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)
