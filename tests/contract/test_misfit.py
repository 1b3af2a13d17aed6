"""Checkpoints that are damaged, hold code, or are of another model or version: one clear error, and nothing is run."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from anomalib.models import AnomalibModule

from anomalib_plus import models
from anomalib_plus.training.checkpoint_files import CheckpointError

from .conftest import Surfaces, Trained
from .small_models import SmallModel, each_once, quiet_engine

Content = dict[str, Any]


class Payload:
    """Harmless, but loading it runs code: it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.file), "w")


def checkpoint_of(model: AnomalibModule) -> Content:
    """What a trainer would save, without the state of a training."""
    content: Content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content |= {"pytorch-lightning_version": lightning.__version__, "epoch": 0, "global_step": 0, "loops": None}
    model.on_save_checkpoint(content)
    return content


def another_model(name: str) -> AnomalibModule:
    names = models.__all__
    return SmallModel.named(names[(names.index(name) + 1) % len(names)]).build()


def changed_weight(content: Content, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Content:
    weights = dict(content["state_dict"])
    name = next(name for name, value in weights.items() if name.startswith("model.") and value.ndim == 4)
    changed = change(weights.pop(name))
    return {**content, "state_dict": weights | ({} if changed is None else {name: changed})}


def without_origin(content: Content) -> Content:
    return {key: value for key, value in content.items() if key != "anomalib_plus"}


CONTENTS: dict[str, tuple[Callable[[SmallModel, Content, Path], object], str]] = {
    "another model": (
        lambda small, content, _: checkpoint_of(another_model(small.name)),
        r"checkpoint is of the model \w+, not {name}: use \w+",
    ),
    "another model that does not say so": (
        lambda small, content, _: without_origin(checkpoint_of(another_model(small.name))),
        r"arguments that {name} does not have here: \w+.* another model or version \(it does not say which\)",
    ),
    "an unknown argument": (
        lambda small, content, _: {
            **content,
            "hyper_parameters": content["hyper_parameters"] | {"new_argument": 1},
        },
        r"{name} does not have here: new_argument\. Model and version \(\d\S+\) are the same",
    ),
    "an argument of another version": (
        lambda small, content, _: {
            **content,
            "hyper_parameters": content["hyper_parameters"] | {"new_argument": 1},
            "anomalib_plus": {"model": small.name, "version": "9.9"},
        },
        r"{name} does not have here: new_argument\. .*another model or version \(written by \S+ 9\.9, here \d",
    ),
    "a missing weight": (
        lambda small, content, _: changed_weight(content, lambda _: None),
        r"do not fit {name}.*1 missing \(model\.\S+\)\. It was written with the same arguments by the same version "
        r"\(\d\S+\), so the file or the code was changed",
    ),
    "a missing weight in another version": (
        lambda small, content, _: changed_weight(
            content | {"anomalib_plus": {"model": small.name, "version": "9.9"}}, lambda _: None
        ),
        r"1 missing .*Its arguments are the same, so it is of another version \(written by anomalib-plus 9\.9, here \d",
    ),
    "a missing weight in an unknown version": (
        lambda small, content, _: changed_weight(without_origin(content), lambda _: None),
        r"1 missing .*Its arguments are the same, so it is of another version \(it does not say which\)",
    ),
    "a weight too many": (
        lambda small, content, _: {**content, "state_dict": content["state_dict"] | {"model.extra": torch.zeros(1)}},
        r"do not fit {name}.*1 unknown \(model\.extra\)",
    ),
    "a weight of another shape": (
        lambda small, content, _: changed_weight(content, lambda weight: weight.repeat(2, 1, 1, 1)),
        r"1 of another shape \(model\.\S+ \(\d+, \d+, \d+, \d+\) instead of \(\d+, \d+, \d+, \d+\)\)",
    ),
    "weights only": (lambda small, content, _: content["state_dict"], r"not a checkpoint of a training.*weights=FILE"),
    "a list": (lambda small, content, _: [1, 2], r"not a checkpoint of a training.*list"),
    "code": (
        lambda small, content, file: {**content, "hyper_parameters": {"learning_rate": Payload(file)}},
        r"was refused.*could run code",
    ),
    "code by its name": (
        lambda small, content, _: {
            **content,
            "hyper_parameters": content["hyper_parameters"] | {"_instantiator": f"{__name__}.run_by_name"},
        },
        r"was refused, because it names code to call \(_instantiator='\S+run_by_name'\)",
    ),
    "code by its name among the arguments": (
        lambda small, content, _: {
            **content,
            "hyper_parameters": content["hyper_parameters"]
            | {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": "subprocess.Popen"},
        },
        r"was refused, because it names code to call \(_instantiator=.*, _class_path='subprocess\.Popen'\)",
    ),
} | {
    f"code by its name under {key}": (
        lambda small, content, _, key=key: {
            **content,
            key: {
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
                "evaluator": {"class_path": "evil.Evil"},
            },
        },
        rf"was refused, because it holds arguments under {key}, .* can name code",
    )
    for key in ("hparams", "module_arguments")
}


def run_by_name(*_: object) -> None:
    pytest.fail("the checkpoint ran code")


def directly(small_model: SmallModel, surfaces: Surfaces, file: Path) -> None:
    small_model.cls.load_from_checkpoint(file)


def by_engine(small_model: SmallModel, surfaces: Surfaces, file: Path) -> None:
    quiet_engine().test(small_model.build(evaluator=False), datamodule=surfaces(), ckpt_path=file)


ROUTES = {"load_from_checkpoint": directly, "Engine.test": by_engine}


@each_once(
    [(case, "load_from_checkpoint") for case in CONTENTS]
    + [(case, "Engine.test") for case in ("another model", "a missing weight", "weights only", "code")],
    every=[("another model", "load_from_checkpoint"), ("a missing weight", "Engine.test")],
)
def test_content_that_does_not_fit_is_explained(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, tmp_path: Path, case: tuple[str, str]
) -> None:
    content, route = case
    make, message = CONTENTS[content]
    file, mark = tmp_path / "model.ckpt", tmp_path / "code was run"
    torch.save(make(small_model, torch.load(trained.checkpoint, weights_only=True), mark), file)
    with pytest.raises(CheckpointError, match=message.format(name=small_model.name)):
        ROUTES[route](small_model, surfaces, file)
    assert not mark.exists()


@pytest.mark.parametrize("route", ROUTES)
def test_damaged_files_are_named(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, tmp_path: Path, route: str
) -> None:
    whole = trained.checkpoint.read_bytes()
    contents = {
        "empty": (b"", "it is empty"),
        "truncated": (whole[: len(whole) // 2], r"damaged or incomplete \(\d+ bytes\)"),
        "text": (b"version https://git-lfs.github.com/spec/v1\n", "damaged"),
        "pickle": (pickle.dumps(Payload(tmp_path / "code was run")), "damaged.*could run code"),
    }
    for name, (content, message) in contents.items():
        file = tmp_path / f"{name}.ckpt"
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}\.ckpt .*{message}"):
            ROUTES[route](small_model, surfaces, file)
    assert not (tmp_path / "code was run").exists()
    with pytest.raises(FileNotFoundError, match=r"absent\.ckpt"):
        ROUTES[route](small_model, surfaces, tmp_path / "absent.ckpt")


def test_the_environment_cannot_allow_code(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This variable of torch's opens every load that does not say what it wants."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    content = torch.load(trained.checkpoint, weights_only=True) | {"more": Payload(tmp_path / "code was run")}
    torch.save(content, tmp_path / "model.ckpt")
    for load in ROUTES.values():
        with pytest.raises(CheckpointError, match="refused"):
            load(small_model, surfaces, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="refused"):
        small_model.cls.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=False)
    assert not (tmp_path / "code was run").exists()


def test_differing_arguments_are_named(
    small_model: SmallModel, trained: Trained, surfaces: Surfaces, tmp_path: Path
) -> None:
    """A model built by hand with other arguments than the checkpoint's."""
    content = changed_weight(
        torch.load(trained.checkpoint, weights_only=True), lambda weight: weight.repeat(2, 1, 1, 1)
    )
    content["hyper_parameters"]["learning_rate"] = 0.125
    torch.save(content, tmp_path / "model.ckpt")
    here = trained.model.hparams["learning_rate"]
    with pytest.raises(CheckpointError, match=rf"made with learning_rate=0\.125 \(here {here}\): .*--config.*build"):
        by_engine(small_model, surfaces, tmp_path / "model.ckpt")
