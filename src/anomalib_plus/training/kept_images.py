"""Training images that are read once and kept in memory."""

from typing import Any

from anomalib.data import AnomalibDataset, ImageItem
from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_plus.data.stage_data import datamodule_of_stage
from anomalib_plus.training.repeatable import is_repeatable

MOST_BYTES = 2**29
"""Memory for images and masks; further ones are read each time."""


class KeptImages(AnomalibDataset):
    """Items of a dataset, each of which is kept in memory when it was first read, up to ``MOST_BYTES``.

    Args:
        dataset: Dataset that gives the same items in each epoch, read by anomalib's own method.
    """

    def __init__(self, dataset: AnomalibDataset) -> None:
        super().__init__()
        self.__dict__.update(dataset.__dict__)  # in the same order, without another search for the files
        self._kept: dict[str, ImageItem] = {}  # by path: a subset of a dataset has other numbers
        self._bytes = 0

    def __getitem__(self, index: int) -> ImageItem:
        """Return the item of the dataset."""
        path = self.samples.image_path.iloc[index]
        item = self._kept.get(path)
        if item is None:
            item = _whole(super().__getitem__(index))
            size = sum(value.nbytes for value in (item.image, item.gt_mask) if value is not None)
            if self._bytes + size <= MOST_BYTES:
                self._kept[path] = item
                self._bytes += size
        return item

    def forget(self) -> None:
        """Free the memory: the data loader of a trainer refers to its dataset for longer than the training."""
        self._kept.clear()
        self._bytes = 0


class KeepImages(Callback):
    """Read each training image once: that can take longer than a training step of a small network.

    For anomalib's datasets of image files that are loaded in the process of the training (``num_workers=0``) and
    without random augmentations. anomalib resizes images when it reads them, so they are kept at the size of the
    network's input. The datamodule gets its dataset back at the end.
    """

    def __init__(self) -> None:
        self._replaced: tuple[Any, AnomalibDataset, KeptImages] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Replace the training data of the datamodule."""
        datamodule: Any = datamodule_of_stage(trainer)
        dataset = getattr(datamodule, "train_data", None)
        if stage == "fit" and getattr(datamodule, "num_workers", 1) == 0 and _repeats(dataset):
            datamodule.train_data = KeptImages(dataset)
            self._replaced = datamodule, dataset, datamodule.train_data

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Put the dataset back."""
        self._put_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Put the dataset back."""
        self._put_back()

    def _put_back(self) -> None:
        if self._replaced is not None:
            datamodule, dataset, kept = self._replaced
            datamodule.train_data = dataset
            kept.forget()
            self._replaced = None


def _whole(item: ImageItem) -> ImageItem:
    """Copy what is a part of a larger image, all of which it would keep in memory: a centre crop is a view."""
    for name in ("image", "gt_mask"):
        value = getattr(item, name)
        if value is not None and value.untyped_storage().nbytes() > value.nbytes:
            setattr(item, name, value.clone())
    return item


def _repeats(dataset: Any) -> bool:
    """Return True if anomalib reads the images from files and changes them in the same way each time."""
    names = ("__getitem__", "collate_fn")
    is_read_by_anomalib = all(getattr(type(dataset), name, None) is getattr(AnomalibDataset, name) for name in names)
    return is_read_by_anomalib and is_repeatable(dataset.augmentations)
