"""The perceptual distance: layers, values, and where VGG's weights come from. No test reaches a network."""

import copy
import pickle
from pathlib import Path

import pytest
import timm
import torch
from anomalib.data import ImageBatch
from safetensors.torch import save_file
from torch import Tensor, nn

from anomalib_plus import RbAE
from anomalib_plus.models.rbae.perceptual import PRESETS, PerceptualDistance, load_vgg, relu_indices
from anomalib_plus.training.reduced_training import ReducedTrainingWarning

QUIET = {"evaluator": False, "visualizer": False, "widths": (4, 4, 4, 4, 4)}


@pytest.fixture
def layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Conv2d(4, 5, 3), nn.ReLU(True), nn.MaxPool2d(2))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first blocks of a VGG-16 under torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    values = {}
    for index, (after, before) in shapes.items():
        values[f"features.{index}.weight"] = torch.randn(after, before, 3, 3, generator=generator) / before
        values[f"features.{index}.bias"] = torch.randn(after, generator=generator)
    file = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save({**values, "classifier.0.weight": torch.zeros(2, 2)}, file)
    return file


def test_presets_are_the_first_five_activations_and_the_layers_of_lpips() -> None:
    with torch.device("meta"):
        network = timm.create_model("vgg16", pretrained=False).features
    activations = [index for index, layer in enumerate(network) if isinstance(layer, nn.ReLU)]
    before_pooling = [index - 1 for index, layer in enumerate(network) if isinstance(layer, nn.MaxPool2d)]
    assert list(relu_indices("first5")) == activations[:5]
    assert list(relu_indices("lpips")) == before_pooling
    assert [index for name in PRESETS["lpips"] for index in relu_indices((name,))] == before_pooling
    assert sum(p.numel() for p in network[: activations[4] + 1].parameters()) == 555_328


@pytest.mark.parametrize("names", ["first6", (), ("relu3_4",), ("conv1_1",)], ids=str)
def test_unknown_layers_are_refused(names: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="perceptual_layers must be one of first5, lpips"):
        RbAE(**QUIET, perceptual_layers=names)


def test_distance_is_the_mean_absolute_difference_of_normalised_images_features(layers: nn.Sequential) -> None:
    first, second = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = []
    for images in (first, second):
        early = layers[:2]((images - mean[:, None, None]) / std[:, None, None])
        features.append((early, layers[2:4](early.clone())))
    expected = sum((a - b).abs().mean() for a, b in zip(*features, strict=True)) / 2
    torch.testing.assert_close(PerceptualDistance(layers, (1, 3))(first, second), expected)


def test_only_the_reconstruction_gets_a_gradient(layers: nn.Sequential) -> None:
    first, second = (torch.rand(2, 3, 16, 16, requires_grad=True) for _ in range(2))
    PerceptualDistance(layers, (1, 3))(first, second).backward()
    assert first.grad.abs().sum() > 0
    assert second.grad is None
    assert all(parameter.grad is None for parameter in layers.parameters())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file_are_loaded(weights: Path, tmp_path: Path, suffix: str) -> None:
    stored = torch.load(weights)
    file = tmp_path / f"vgg.{suffix}"
    (torch.save if suffix == "pth" else save_file)(stored, file)
    distance = load_vgg("first5", file)
    assert sorted(distance.network._modules, key=int)[-1] == "11"
    assert torch.equal(getattr(distance.network, "10").weight, stored["features.10.weight"])
    assert distance(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)) > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no weights", "not a state dict"), ({"features.0.weight": torch.zeros(2)}, "10 of 10 parameters.*features.0")],
    ids=["garbage", "another network"],
)
def test_bad_files_are_named(content: bytes | dict[str, Tensor], message: str, tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=rf"(?s)vgg_weights=.*vgg\.pth.*{message}"):
        load_vgg("first5", file)
    with pytest.raises(FileNotFoundError, match=r"vgg_weights=.*missing"):
        load_vgg("first5", tmp_path / "missing.pth")


def test_missing_weights_switch_the_term_off_with_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("timm.create_model", unreachable)
    model = RbAE(**QUIET)
    with pytest.warns(ReducedTrainingWarning, match="without its perceptual loss.*vgg_weights=FILE") as warned:
        model.on_fit_start()
    message = str(warned[0].message)
    assert "perceptual=False trains without them" in message
    assert "to load a checkpoint into it" not in message
    assert "efficientnet" not in message
    assert model._perceptual is None


def test_the_networks_of_a_training_are_those_it_downloads() -> None:
    assert RbAE(**QUIET).training_networks == ("vgg16.tv_in1k",)
    for arguments in ({"perceptual": False}, {"perceptual_weight": 0.0}, {"vgg_weights": "vgg.pth"}):
        assert RbAE(**QUIET, **arguments).training_networks == ()


def test_a_training_compares_by_vgg_and_keeps_it_to_itself(weights: Path) -> None:
    model = RbAE(**QUIET, vgg_weights=weights).train()
    model.log = model.log_dict = lambda *args, **kwargs: None
    names = set(model.state_dict())
    model.on_fit_start()
    seen: list[object] = []
    hook = model.loss.register_forward_pre_hook(lambda _, args: seen.append(args[3]))
    model.training_step(ImageBatch(image=torch.rand(2, 3, 32, 32)), 0).backward()
    assert isinstance(seen[0], PerceptualDistance)
    assert set(model.state_dict()) == names
    hook.remove()
    del model.log, model.log_dict
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other._perceptual is None
    assert len(pickle.dumps(model)) < 2**21  # VGG alone has 2.2 MB
    model.on_fit_end()
    assert model._perceptual is None


def test_switched_off_nothing_is_loaded(tmp_path: Path) -> None:
    for off in ({"perceptual": False}, {"perceptual_weight": 0.0}):
        model = RbAE(**QUIET, **off, vgg_weights=tmp_path / "missing.pth")
        model.on_fit_start()
        assert model._perceptual is None
