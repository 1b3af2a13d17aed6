"""The wrapped model: built from plain data, described by plain data, and with callbacks of its own."""

import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torchvision.transforms.v2 import CenterCrop, Compose, Resize, Transform
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.tiling.torch_model import TiledModel


def build_model(model: AnomalibModule | Mapping[str, Any] | DictConfig) -> AnomalibModule:
    """Return a model, built from ``{"class_path": ..., "init_args": {...}}`` if it is plain data.

    Only subclasses of ``AnomalibModule`` that are imported already can be named: a checkpoint cannot import code.

    Raises:
        TypeError: If it is neither, or a model that predicts by more than its network.
        ValueError: If there is no such model.
    """
    if OmegaConf.is_config(model):
        model = OmegaConf.to_container(model)
    if isinstance(model, Mapping):
        if not isinstance(model.get("class_path"), str) or model.keys() - {"class_path", "init_args"}:
            msg = f"model must have a class_path and may have init_args, nothing else; got {dict(model)}."
            raise ValueError(msg)
        model = _find_class(model["class_path"])(**model.get("init_args", {}))
    if not isinstance(model, AnomalibModule):
        msg = f"model must be an anomalib model or its class_path and init_args, got {type(model).__name__}."
        raise TypeError(msg)
    kind = type(model)
    if any(getattr(kind, step) is not getattr(AnomalibModule, step) for step in ("test_step", "predict_step")):
        msg = f"{kind.__name__} does more in a prediction than call its network, so it cannot be used on tiles."
        raise TypeError(msg)
    return model


def _find_class(class_path: str) -> Callable[..., AnomalibModule]:
    module, _, name = class_path.rpartition(".")
    found = {kind for kind in _subclasses(AnomalibModule) if kind.__name__ == name}
    # A package may export a class under its own path; vars, because getattr could import a module.
    exported = vars(sys.modules[module]).get(name) if module in sys.modules else None
    exact = {kind for kind in found if kind is exported or f"{kind.__module__}.{name}" == class_path} or found
    if len(exact) != 1:
        problem = "Several imported models have" if exact else "No imported model has"
        msg = f"{problem} the class_path {class_path!r}. Import the module of the model first, or check the name."
        raise ValueError(msg)
    return exact.pop()


def _subclasses(kind: type[AnomalibModule]) -> Iterator[type[AnomalibModule]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def describe(model: AnomalibModule) -> dict[str, Any]:
    """Return plain data from which :func:`build_model` builds the model again, apart from its components."""
    kind = type(model)
    arguments = {name: _plain(value) for name, value in model.hparams.items() if not name.startswith("_")}
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": arguments}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def without_resizing(pre_processor: Any) -> PreProcessor:
    """Return a pre-processor for tiles: another one, which must be anomalib's, without its resizing and cropping."""
    if pre_processor is None:
        return PreProcessor()
    if not isinstance(pre_processor, PreProcessor):
        msg = (
            f"The model's pre_processor is a {type(pre_processor).__name__}, and Tiled cannot tell what of it is for "
            "tiles. Give the model anomalib's PreProcessor, or pre_processor=False."
        )
        raise TypeError(msg)
    transform = pre_processor.transform
    parts = transform.transforms if isinstance(transform, Compose) else [transform]
    kept = [part for part in parts if part is not None and not isinstance(part, Resize | CenterCrop)]
    return PreProcessor(Compose(kept)) if kept else PreProcessor()


class MiddleTile(Transform):
    """Transform of a whole image to its middle tile, for models that look at training images themselves."""

    def __init__(self, network: TiledModel) -> None:
        super().__init__()
        self.settings = (network.scale, network.tile)
        self.tile_pre_processor = network.tile_pre_processor

    def forward(self, images: Tensor, *others: Any) -> Any:
        """Scale images (B, C, H, W), cut out the middle and pre-process it; return ``others`` as they are."""
        scale, tile = self.settings
        size = [round(side * scale) for side in images.shape[-2:]]
        middle = tv.center_crop(tv.resize(images, size, antialias=True), list(tile))
        transform = self.tile_pre_processor.transform
        processed = transform(middle) if transform else middle
        return (processed, *others) if others else processed


class CallbackOfInner(Callback):
    """Callback of the wrapped model, called with that model in place of the wrapper.

    Args:
        callback: Callback to call.
        inner: Function that returns the wrapped model, ready to log and to use the trainer.
    """

    def __init__(self, callback: Callback, inner: Callable[[], AnomalibModule]) -> None:
        self.callback = callback
        self.inner = inner
        for name in dir(Callback):
            is_hook = name.startswith("on_") or name in {"setup", "teardown"}
            if is_hook and getattr(type(callback), name) is not getattr(Callback, name):
                setattr(self, name, partial(self._call, getattr(callback, name)))

    def _call(self, hook: Callable[..., Any], trainer: Trainer, _wrapper: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(trainer, self.inner(), *args, **kwargs)

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint: the callback's own."""
        return self.callback.state_key

    def state_dict(self) -> dict[str, Any]:
        """Return the callback's state."""
        return self.callback.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the callback's state."""
        self.callback.load_state_dict(state_dict)
