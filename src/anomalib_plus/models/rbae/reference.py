"""Reference image: chosen among the training images or read from a file, and stored with its features."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from anomalib.data.utils import read_image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.data.samples import read_samples
from anomalib_plus.image_files import inspect_image, printable

FIRST, MEDOID = "first", "medoid"
MEDOID_CANDIDATES = 64
"""Maximum number of training images that are compared."""


class TrainingImages:
    """Images of a training dataset in the order of their paths, without augmentation.

    Datasets without paths keep their own order.

    Args:
        dataset: An anomalib dataset, a subset of one, or any sequence of items with an ``image``.

    Raises:
        TypeError: If the dataset has no length.
    """

    def __init__(self, dataset: Any) -> None:
        indices: list[int] | None = None
        while isinstance(dataset, Subset):
            chosen = list(dataset.indices)
            indices = chosen if indices is None else [chosen[index] for index in indices]
            dataset = dataset.dataset
        if not hasattr(dataset, "__len__"):
            msg = f"{type(dataset).__name__} has no length: set reference to the path of an image."
            raise TypeError(msg)
        if getattr(dataset, "augmentations", None) is not None:
            dataset = copy.copy(dataset)
            dataset.augmentations = None
        self._dataset = dataset
        self._indices = list(range(len(dataset))) if indices is None else indices
        if isinstance(dataset, AnomalibDataset):
            paths = [sample.image for sample in read_samples(dataset)]
            self._indices.sort(key=paths.__getitem__)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Tensor:
        """Return an image (C, H, W) in [0, 1]."""
        return self._dataset[self._indices[index]].image


def training_images(train_dataloader: Any) -> TrainingImages:
    """Return the images of a trainer's ``train_dataloader``.

    Raises:
        TypeError: If that is not a single loader of a dataset with a length.
    """
    if not isinstance(train_dataloader, DataLoader):
        kind = type(train_dataloader).__name__
        msg = f"The training images come from a {kind}, not a DataLoader: set reference to the path of an image."
        raise TypeError(msg)
    return TrainingImages(train_dataloader.dataset)


def choose_reference(choice: str | Path, train_dataloader: Any, describe: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the reference image (C, H, W) in [0, 1]: the "first" training image, their "medoid", or that of a file.

    Args:
        choice: "first", "medoid" or a path.
        train_dataloader: The trainer's ``train_dataloader``.
        describe: Function from an image (C, H, W) to a descriptor (D,), for the medoid.
    """
    if choice not in {FIRST, MEDOID}:
        return read_reference(Path(choice))
    images = training_images(train_dataloader)
    return images[medoid(images, describe) if choice == MEDOID else 0]


def read_reference(file: Path) -> Tensor:
    """Read an image file as (3, H, W) in [0, 1]; grey images get three equal channels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image, or would be read wrongly (16 bits).
    """
    if not file.is_file():
        msg = f'reference={file} does not exist. Set it to an image file, "first" or "medoid".'
        raise FileNotFoundError(msg)
    if fault := inspect_image(file, decode=True).fault:
        msg = f"reference={printable(file)} {fault}."
        raise ValueError(msg)
    return read_image(file, as_tensor=True)


def check_reference(image: Tensor) -> None:
    """Raise ``ValueError`` unless this is one image (3, H, W) or (1, H, W) of floating-point values."""
    if image.ndim != 3 or image.shape[0] not in {1, 3} or not image.is_floating_point():
        msg = (
            "The reference must be one image (3, H, W) or (1, H, W) of floating-point values in [0, 1], got "
            f"{tuple(image.shape)} of {image.dtype}."
        )
        raise ValueError(msg)


def as_batch(image: Tensor) -> Tensor:
    """Expand an image (C, H, W) of one or three channels to (1, 3, H, W)."""
    return image.expand(3, -1, -1)[None]


def resize_to_multiple(images: Tensor, divisor: int) -> Tensor:
    """Resize (B, C, H, W) to the nearest multiples of ``divisor``, at least ``2 * divisor``."""
    height, width = (max(2, round(size / divisor)) * divisor for size in images.shape[-2:])
    return images if images.shape[-2:] == (height, width) else tv.resize(images, [height, width], antialias=True)


def medoid(images: TrainingImages, describe: Callable[[Tensor], Tensor]) -> int:
    """Return the index of the image whose descriptor has the smallest mean distance to those of the others.

    Args:
        images: Images; if there are more than ``MEDOID_CANDIDATES``, as many evenly spaced ones are compared.
        describe: Function from an image (C, H, W) to a descriptor (D,).
    """
    candidates = torch.linspace(0, len(images) - 1, min(len(images), MEDOID_CANDIDATES)).round().long().tolist()
    descriptors = torch.stack([describe(images[index]).double().cpu() for index in candidates])
    # Not by a matrix product, whose rounding could decide between nearly equal images.
    distances = torch.cdist(descriptors, descriptors, compute_mode="donot_use_mm_for_euclid_dist")
    return candidates[int(distances.mean(dim=1).argmin())]


class ReferenceStore(nn.Module):
    """Reference image and its features at some layers; empty tensors until it is chosen.

    Loading a checkpoint resizes the buffers to the stored sizes, so it needs neither dataset nor image size.

    Args:
        widths: Channels of the features by layer.
    """

    image: Tensor

    def __init__(self, widths: dict[int, int]) -> None:
        super().__init__()
        self.levels = tuple(widths)
        self.register_buffer("image", torch.empty(1, 3, 0, 0))
        for level, width in widths.items():
            self.register_buffer(f"layer{level}", torch.empty(1, width, 0, 0))

    @property
    def ready(self) -> bool:
        """True once a reference has been chosen."""
        return self.image.numel() > 0

    def features(self, level: int) -> Tensor:
        """Return the features (1, C, H, W) of the reference at a layer."""
        return getattr(self, f"layer{level}")

    def fill(self, image: Tensor, features: Sequence[Tensor]) -> None:
        """Store the image (1, 3, H, W) and its features (1, C, H, W) for each layer of ``levels``."""
        self._resize("image", image.shape).copy_(image)
        for level, values in zip(self.levels, features, strict=True):
            self._resize(f"layer{level}", values.shape).copy_(values)

    def clear(self) -> None:
        """Forget the reference."""
        for name, buffer in list(self.named_buffers()):
            self._resize(name, (*buffer.shape[:2], 0, 0))

    def _resize(self, name: str, shape: Sequence[int]) -> Tensor:
        buffer: Tensor = getattr(self, name)
        if buffer.shape != torch.Size(shape):
            setattr(self, name, buffer.new_empty(tuple(shape)))
        return getattr(self, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in list(self.named_buffers()):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.ndim == 4 and stored.shape[:2] == buffer.shape[:2]:
                self._resize(name, stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
