"""Which clean image is the reference: a file, the first training image, or the most typical of them."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from anomalib.data.utils import read_image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from anomalib_plus.data.image_files import inspect_image, printable
from anomalib_plus.data.samples import read_samples

MEDOID_CANDIDATES = 64
"""Most training images that are compared; of more, as many evenly spread ones."""


class TrainingImages:
    """The images of a training data set in the order of their paths, without augmentation.

    Data sets without paths keep their own order.

    Args:
        dataset: An anomalib data set, a subset of one, or any sequence of items with an ``image``.

    Raises:
        TypeError: If the data set has no length.
    """

    def __init__(self, dataset: Any) -> None:
        indices: list[int] | None = None
        while isinstance(dataset, Subset):
            chosen = list(dataset.indices)
            indices = chosen if indices is None else [chosen[index] for index in indices]
            dataset = dataset.dataset
        if not hasattr(dataset, "__len__"):
            msg = f"{type(dataset).__name__} has no length: give the reference image as a path."
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
        """One image (C, H, W) in [0, 1]."""
        return self._dataset[self._indices[index]].image


def training_images(train_dataloader: Any) -> TrainingImages:
    """Images behind a trainer's ``train_dataloader``.

    Raises:
        TypeError: If that is not one loader of a data set with a length.
    """
    if not isinstance(train_dataloader, DataLoader):
        msg = f"The training images come from a {type(train_dataloader).__name__}: give the reference image as a path."
        raise TypeError(msg)
    return TrainingImages(train_dataloader.dataset)


def read_reference(file: Path) -> Tensor:
    """Read an image file; (3, H, W) in [0, 1], grey ones as three equal channels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image, or one that would not be read rightly (16 bits).
    """
    if not file.is_file():
        msg = f'reference={file}: there is no such file. Give an image file, "first" or "medoid".'
        raise FileNotFoundError(msg)
    if fault := inspect_image(file, decode=True).fault:
        msg = f"reference={printable(file)} {fault}."
        raise ValueError(msg)
    return read_image(file, as_tensor=True)


def as_batch(image: Tensor) -> Tensor:
    """Give an image (C, H, W), C being 1 or 3, a batch axis and three channels; (1, 3, H, W)."""
    return image.expand(3, -1, -1)[None]


def medoid(images: TrainingImages, describe: Callable[[Tensor], Tensor]) -> int:
    """Index of the image whose descriptor has the smallest mean distance to those of the others.

    Args:
        images: Of more than ``MEDOID_CANDIDATES``, as many evenly spread ones are compared.
        describe: Maps one image (C, H, W) to a descriptor (D,).
    """
    candidates = torch.linspace(0, len(images) - 1, min(len(images), MEDOID_CANDIDATES)).round().long().tolist()
    descriptors = torch.stack(list(_descriptors(images, candidates, describe)))
    # Not by a matrix product, whose rounding could decide between near copies.
    distances = torch.cdist(descriptors, descriptors, compute_mode="donot_use_mm_for_euclid_dist")
    return candidates[int(distances.mean(dim=1).argmin())]


def _descriptors(images: TrainingImages, candidates: list[int], describe: Callable[[Tensor], Tensor]) -> Iterator:
    return (describe(images[index]).double().cpu() for index in candidates)
