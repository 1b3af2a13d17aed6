"""How a model is found, configured and built."""

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.models import AnomalibModule, get_model, list_models
from anomalib.utils.path import convert_to_snake_case
from jsonargparse import Namespace
from omegaconf import OmegaConf
from torchvision.transforms.v2 import Normalize

from anomalib_plus import models
from anomalib_plus.transforms import build_augmenter

from .conftest import Surfaces
from .small_models import SMALL, SmallModel, quiet_engine

CONFIGURATIONS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "dict with bare name": lambda name, arguments: {"class_path": name, "init_args": arguments},
    "dict with dotted path": lambda name, arguments: {
        "class_path": f"anomalib_plus.models.{name}",
        "init_args": arguments,
    },
    "Namespace": lambda name, arguments: Namespace(class_path=name, init_args=arguments),
    "DictConfig": lambda name, arguments: OmegaConf.create({"class_path": name, "init_args": arguments}),
}


def assert_plain_data(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            assert_plain_data(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            assert_plain_data(item, f"{where}[{index}]")
    else:
        assert value is None or type(value) in (bool, int, float, str), f"{where} is a {type(value)}"


def as_lists(value: Any) -> Any:
    """Let tuples and lists compare equal: YAML knows lists only."""
    return [as_lists(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def assert_built_as_asked(model: AnomalibModule, small_model: SmallModel) -> None:
    assert type(model) is small_model.cls
    asked, reference = model.state_dict(), small_model.build().state_dict()
    assert {key: value.shape for key, value in asked.items()} == {key: v.shape for key, v in reference.items()}
    expected = dict(small_model.arguments)
    if "augmenter" in expected:  # the hyper-parameters name the arguments that are left at their defaults, too
        expected["augmenter"] = build_augmenter(expected["augmenter"]).config()
    assert {name: as_lists(model.hparams[name]) for name in small_model.arguments} == expected


def test_every_model_has_a_small_configuration() -> None:
    assert set(SMALL) == set(models.__all__), "tests/contract/small_models.py needs one line per model, no more"


def test_anomalib_lists_the_model_because_it_is_a_direct_subclass(small_model: SmallModel) -> None:
    assert AnomalibModule in small_model.cls.__bases__
    assert convert_to_snake_case(small_model.name) in list_models()
    assert small_model.name in list_models(case="pascal")


@pytest.mark.parametrize("spelling", [str, str.lower, convert_to_snake_case])
def test_get_model_by_name(small_model: SmallModel, spelling: Callable[[str], str]) -> None:
    assert_built_as_asked(get_model(spelling(small_model.name), **small_model.arguments), small_model)


@pytest.mark.parametrize("form", CONFIGURATIONS)
def test_get_model_by_configuration(small_model: SmallModel, form: str) -> None:
    configuration = CONFIGURATIONS[form](small_model.name, small_model.arguments)
    assert_built_as_asked(get_model(configuration), small_model)


@pytest.mark.parametrize("package", ["", "anomalib_plus.", "anomalib_plus.models."])
def test_get_model_by_class_path_and_keywords(small_model: SmallModel, package: str) -> None:
    configuration = {"class_path": package + small_model.name}
    assert_built_as_asked(get_model(configuration, **small_model.arguments), small_model)


def test_checkpoint_of_a_model_from_a_configuration_loads_with_weights_only(
    small_model: SmallModel, surfaces: Surfaces
) -> None:
    """``get_model`` passes lists as OmegaConf containers, which must not end up in the checkpoint."""
    arguments = {**small_model.arguments, "pre_processor": False, "visualizer": False}
    engine = quiet_engine(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    engine.fit(get_model({"class_path": small_model.name, "init_args": arguments}), datamodule=surfaces())
    loaded = small_model.cls.load_from_checkpoint(engine.best_model_path, weights_only=True)
    assert_plain_data(dict(loaded.hparams), "hparams")
    assert_built_as_asked(loaded, small_model)


def test_from_config(small_model: SmallModel, tmp_path: Path) -> None:
    config = tmp_path / "model.yaml"
    config.write_text(json.dumps({"model": {"class_path": small_model.name, "init_args": small_model.arguments}}))
    assert_built_as_asked(AnomalibModule.from_config(config), small_model)


def test_hyper_parameters_are_plain_data_that_rebuild_the_model(small_model: SmallModel) -> None:
    hparams = dict(small_model.build().hparams)
    assert_plain_data(hparams, "hparams")
    assert_built_as_asked(small_model.cls(**hparams), small_model)


def test_constructor_uses_no_network(small_model: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        attempts.append(address)
        msg = "no network here"
        raise OSError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    small_model.build()
    assert not attempts


def test_default_pre_processor_resizes_and_does_not_normalize(small_model: SmallModel) -> None:
    default = small_model.cls(**small_model.arguments).pre_processor
    assert not extract_transforms_by_type(default.transform, Normalize)
    white_and_black = torch.stack([torch.ones(3, 50, 70), torch.zeros(3, 50, 70)])
    for transform in (default.transform, default.export_transform):
        resized = transform(white_and_black)
        torch.testing.assert_close(resized, white_and_black[..., :1, :1].expand_as(resized), atol=1e-6, rtol=0)


def test_configure_pre_processor_takes_the_size_by_position(small_model: SmallModel) -> None:
    pre_processor = small_model.cls.configure_pre_processor((64, 128))
    assert small_model.build(pre_processor=pre_processor).input_size == (64, 128)
