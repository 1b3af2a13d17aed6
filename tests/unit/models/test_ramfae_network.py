"""The RAMFAE network: sizes, counts, receptive fields and the behaviour of its blocks."""

import pytest
import torch
from torch import nn

from anomalib_plus.models.ramfae.anomaly_map import AnomalyMapGenerator
from anomalib_plus.models.ramfae.torch_model import DecoderBlock, MultiScaleFocusedExtraction, RamFAEModel

SMALL = (4, 8, 16, 32)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def paper_model() -> RamFAEModel:
    return RamFAEModel()


def test_parameters_per_part(paper_model: RamFAEModel) -> None:
    assert count(paper_model) == 19_140_467
    assert [count(block) for block in paper_model.encoder] == [38_848, 279_040, 1_115_136, 4_458_496]
    assert count(paper_model.bottleneck) == 8_944_176
    assert count(paper_model.bottleneck.attention) == 25_648
    assert [count(block) for block in paper_model.decoder] == [3_278_080, 819_840, 205_120]
    assert count(paper_model.head) == 1_731


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"mffe": False}, 10_196_291),
        ({"decoder_residual": False}, 19_140_467),
        ({"dilation_rates": (1, 5, 9)}, 19_140_467),
        ({"dilation_rates": (6, 12, 18)}, 19_140_467),
        ({"mffe_branch_width": 256}, 14_681_715),
        ({"mffe_branch_width": 128}, 12_452_339),
        ({"attention_reduction": 16}, 19_165_091),
        ({"coordinate_attention": False}, 19_140_467 - 25_648),
        ({"in_channels": 1, "widths": (64, 128, 128, 128)}, 3_019_865),
        ({"in_channels": 1, "widths": (16, 32, 64, 128)}, 1_200_297),
        ({"widths": SMALL}, 76_415),
    ],
    ids=str,
)
def test_parameters_of_variants(arguments: dict, parameters: int) -> None:
    with torch.device("meta"):
        assert count(RamFAEModel(**arguments)) == parameters


def test_output_of_every_stage(paper_model: RamFAEModel) -> None:
    shapes = []
    stages = [*paper_model.encoder, paper_model.bottleneck, *paper_model.decoder, paper_model.head]
    hooks = [stage.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:]))) for stage in stages]
    with torch.no_grad():
        paper_model.eval().reconstruct(torch.rand(1, 3, 256, 256))
    for hook in hooks:
        hook.remove()
    encoder = [(64, 256, 256), (128, 128, 128), (256, 64, 64), (512, 32, 32)]
    assert shapes == [*encoder, (512, 32, 32), (256, 64, 64), (128, 128, 128), (64, 256, 256), (3, 256, 256)]


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (64, 96)])
def test_network_output_fills_its_range(size: tuple[int, int]) -> None:
    model = RamFAEModel(widths=SMALL).train()
    with torch.no_grad():
        nn.init.normal_(model.head[0].weight, std=10)
        raw: list[torch.Tensor] = []
        model.head.register_forward_hook(lambda *args: raw.append(args[2]))
        reconstruction = model(torch.rand(2, 3, *size)).reconstruction
    assert reconstruction.shape == (2, 3, *size)
    assert -1 <= raw[0].min() < -0.5 < 0.5 < raw[0].max() <= 1
    assert 0 <= reconstruction.min() < 0.25 < 0.75 < reconstruction.max() <= 1


@pytest.mark.parametrize("size", [(60, 64), (64, 100), (8, 64)])
def test_size_that_does_not_divide_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"divisible by 8 .* got {size[0]}x{size[1]}\. Resize to"):
        RamFAEModel(widths=SMALL)(torch.rand(1, 3, *size))


def test_training_accepts_a_batch_of_one() -> None:
    model = RamFAEModel(widths=SMALL).train()
    model(torch.rand(1, 3, 64, 64)).reconstruction.mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def support(module: nn.Module, in_channels: int, size: int) -> tuple[int, int]:
    """Height and width of the input area that the centre pixel of the output depends on."""
    module = module.double().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(-100.0)  # keeps every ReLU open, so no path hides
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.uniform_(layer.weight, 0.01, 0.02)
    images = torch.rand(1, in_channels, size, size, dtype=torch.float64, requires_grad=True)
    output = module(images)
    output[0, :, output.shape[-2] // 2, output.shape[-1] // 2].sum().backward()
    touched = images.grad[0].abs().sum(0) > 0
    rows, columns = touched.any(1).nonzero().flatten(), touched.any(0).nonzero().flatten()
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def test_receptive_field_of_the_encoder() -> None:
    assert support(RamFAEModel(widths=(2, 2, 2, 2), mffe=False).encoder, 3, 160) == (54, 54)


@pytest.mark.parametrize(("branch", "pixels"), [(1, 134), (2, 166), (3, 198)])
def test_receptive_field_of_the_dilated_branches(branch: int, pixels: int) -> None:
    model = RamFAEModel(widths=(2, 2, 2, 2))
    assert support(nn.Sequential(model.encoder, model.bottleneck.branches[branch]), 3, 320) == (pixels, pixels)


@pytest.mark.parametrize(("mffe", "pixels"), [(False, 94), (True, 238)])
def test_receptive_field_of_the_autoencoder(mffe: bool, pixels: int) -> None:
    model = RamFAEModel(widths=(2, 2, 2, 2), mffe=mffe, coordinate_attention=False)
    if mffe:
        model.bottleneck.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), Detach())
    assert support(nn.Sequential(model.encoder, model.bottleneck, model.decoder), 3, 448) == (pixels, pixels)


class Detach(nn.Module):
    """Cuts the global path out of the gradient."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.detach()


def test_coordinate_attention_gates() -> None:
    attention = MultiScaleFocusedExtraction(64, 64).attention.eval()
    gates: list[torch.Tensor] = []
    attention.gate.register_forward_hook(lambda *args: gates.append(args[2]))
    features = torch.randn(2, 64, 6, 10)
    output = attention(features)
    assert sorted(tuple(gate.shape) for gate in gates) == [(2, 64, 1, 10), (2, 64, 6, 1)]
    assert all(((gate > 0) & (gate < 1)).all() for gate in gates)
    torch.testing.assert_close(output, features * gates[0] * gates[1])


def test_coordinate_attention_with_zeroed_gates_quarters_its_input() -> None:
    attention = MultiScaleFocusedExtraction(64, 64).attention
    for convolution in (attention.conv_h, attention.conv_w):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    features = torch.randn(2, 64, 6, 10)
    assert torch.equal(attention(features), 0.25 * features)


@pytest.mark.parametrize("residual", [True, False])
def test_decoder_residual_is_an_identity(residual: bool) -> None:
    block = DecoderBlock(8, 4, residual)
    last_norm = block.refine[1][1]
    nn.init.zeros_(last_norm.weight)
    nn.init.zeros_(last_norm.bias)
    features = torch.randn(2, 8, 5, 5)
    expected = block.upsample(features) if residual else torch.zeros(2, 4, 10, 10)
    assert torch.equal(block(features), expected)


def test_one_channel_model_works_on_the_mean_of_the_channels() -> None:
    model = RamFAEModel(in_channels=1, widths=SMALL).eval()
    images = torch.rand(2, 3, 64, 64)
    gray = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(model(images).anomaly_map, model(gray).anomaly_map)


@pytest.mark.parametrize("training", [True, False])
def test_one_channel_model_takes_one_channel_images_as_they_are(training: bool) -> None:
    model = RamFAEModel(in_channels=1, widths=SMALL).train(training)
    grey = torch.rand(2, 1, 64, 64)
    outputs = [model(images)[0] for images in (grey, grey.expand(-1, 3, -1, -1))]
    torch.testing.assert_close(*outputs)
    with pytest.raises(ValueError, match=r"RamFAE needs .*\(B, 1 or 3, H, W\), got shape \(2, 2, 64, 64\)"):
        model(torch.rand(2, 2, 64, 64))


@pytest.mark.parametrize(("kernel", "smallest"), [(0, 16), (21, 16), (41, 24)])
def test_images_must_hold_half_the_window_of_the_blur(kernel: int, smallest: int) -> None:
    model = RamFAEModel(widths=SMALL, map_generator=AnomalyMapGenerator(smoothing_kernel=kernel)).eval()
    assert model(torch.rand(1, 3, smallest, smallest)).anomaly_map.shape == (1, 1, smallest, smallest)
    with pytest.raises(ValueError, match=r"of at least \d+ pixels"):
        model(torch.rand(1, 3, smallest - 8, smallest))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (8,)}, "two positive"),
        ({"in_channels": 2}, "3 .*1"),
        ({"attention_reduction": 0}, "attention_reduction must be positive, got 0"),
        ({"mffe_branch_width": 0}, "mffe_branch_width must be positive .*, got 0"),
        ({"mffe_branch_width": -1}, "mffe_branch_width must be positive .*, got -1"),
        ({"dilation_rates": (0,)}, "dilation_rates must be positive, got"),
        ({"dilation_rates": (5, -7)}, "dilation_rates must be positive, got"),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RamFAEModel(**arguments)
