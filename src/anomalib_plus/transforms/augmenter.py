"""The base class of all synthetic anomalies, and how one is written to and built from plain data."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from anomalib_plus.transforms.region import Region


class SyntheticBatch(NamedTuple):
    """A corrupted batch and what a network should make of it."""

    target: Tensor
    """(B, C, H, W), the clean images, rotated where the transform rotates."""
    image: Tensor
    """(B, C, H, W), the target with anomalies."""
    mask: Tensor
    """(B, 1, H, W), 1 on the anomaly, else 0."""


class Augmenter(nn.Module):
    """Synthetic anomalies: a batch of images in, corrupted images and masks out.

    Subclasses implement ``forward(images, generator=None)``, which returns corrupted images (B, C, H, W) and masks
    (B, 1, H, W), and keep every constructor argument in an attribute of its name, so that :meth:`config` can read it.
    """

    def corrupt(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        keys: Sequence[str] | None = None,
    ) -> SyntheticBatch:
        """Corrupt a training batch; subclasses may change the target too (rotation).

        Args:
            images: (B, C, H, W), float in [0, 1]; left as they are.
            generator: CPU generator; torch's default one if None.
            keys: One name per image, for transforms that keep what they computed of an image; None if the same file
                does not give the same image every time.
        """
        del keys
        image, mask = self(images, generator)
        return SyntheticBatch(images, image, mask)

    def check(self) -> None:
        """Raise an error if a training with this transform could not begin; here, a ``region`` that cannot be used.

        Raises:
            FileNotFoundError: If a file or folder that it needs is missing, such as its region of interest.
            ValueError: If such a file cannot be used.
        """
        region = getattr(self, "region", None)
        if isinstance(region, Region):
            region.check()

    def prepare(self, images: Any, transform: Callable[[Tensor], Tensor], description: str, progress: bool) -> None:
        """Compute before the first epoch what depends on an image alone; nothing by default.

        Args:
            images: Dataset whose items have ``image`` and ``image_path``.
            transform: Applied to an image before :meth:`corrupt` sees it.
            description: Description of what ``transform`` and dataset do to an image.
            progress: Draw a progress bar.
        """

    def config(self) -> dict[str, Any]:
        """Return class and arguments as plain data, as YAML files and checkpoints hold them."""
        names = list(inspect.signature(type(self)).parameters)
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            msg = (
                f"{type(self).__name__} must keep each argument of its constructor in an attribute of its name, for "
                f"checkpoints; {', '.join(missing)} is missing."
            )
            raise ValueError(msg)
        return {"class_path": _path(type(self)), "init_args": {name: _plain(getattr(self, name)) for name in names}}


def build_augmenter(config: Augmenter | Mapping[str, Any]) -> Augmenter:
    """Build a transform from its ``class_path`` and ``init_args``; a transform is returned as it is.

    Nothing is imported: only subclasses of :class:`Augmenter` that are imported already are found, so that a checkpoint
    cannot name code to run.

    Raises:
        ValueError: If there is no such class, or it refuses the arguments.
    """
    if isinstance(config, Augmenter):
        return config
    if OmegaConf.is_config(config):  # so that no container of it becomes an argument
        config = cast(Mapping[str, Any], OmegaConf.to_container(config))
    if not isinstance(config, Mapping) or not isinstance(config.get("class_path"), str):
        msg = f"An augmenter is a transform or a dictionary with class_path and init_args, got {config!r}."
        raise ValueError(msg)
    known = _subclasses(Augmenter)
    name = config["class_path"]
    found = [kind for kind in known if _is_named(kind, name)]
    if not found:
        names = ", ".join(sorted(kind.__name__ for kind in known if not kind.__name__.startswith("_")))
        msg = f"There is no augmenter {name!r}. Known are {names}; import the module of a class of your own first."
        raise ValueError(msg)
    try:
        return found[-1](**config.get("init_args") or {})
    except TypeError as error:
        msg = f"The arguments of the augmenter {name} do not fit: {error}."
        raise ValueError(msg) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.config() if hasattr(value, "config") else value


def _is_named(kind: type, name: str) -> bool:
    """Return True if this is the name of a class, alone or below its module or a package above, which may export it."""
    package, _, last = name.rpartition(".")
    return name in {kind.__name__, _path(kind)} or (
        last == kind.__name__ and f"{kind.__module__}.".startswith(f"{package}.")
    )


def _path(kind: type) -> str:
    package = kind.__module__.rpartition(".")[0]
    return f"{package if package == __package__ else kind.__module__}.{kind.__qualname__}"


def _subclasses(kind: type[Augmenter]) -> list[type[Augmenter]]:
    return [found for child in kind.__subclasses__() for found in (child, *_subclasses(child))]
