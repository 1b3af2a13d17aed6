"""Datamodule of a build's splits."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from anomalib.data import AnomalibDataModule, AnomalibDataset, ImageItem
from anomalib.data.utils import LabelName, Split, read_image
from pandas import DataFrame
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Resize
from torchvision.tv_tensors import Image, Mask

FILE = "splits.json"
"""File with the ``digest`` and the entries (``image``, ``label``, ``mask``, ``source``) of each split."""

_EVALUATION = {"comparison": ("selection", "selection"), "finish": ("originals", "calibration")}
"""Splits for validation and test, for each use."""


_MOST_KEPT = 2**30
"""Bytes of resized images that a dataset keeps in memory."""


class GoodImages(AnomalibDataset):
    """Good images, resized when they are read and then kept in memory.

    A camera's image takes far longer to read and to resize than a small network takes for a training step.

    Args:
        samples: Table with ``image_path``.
    """

    def __init__(self, samples: DataFrame) -> None:
        super().__init__()
        self.samples = samples
        self.resize: Resize | None = None
        self._kept: dict[int, Tensor] = {}

    def __getitem__(self, index: int) -> ImageItem:
        """Return the image (3, H, W) in [0, 1] with an empty mask (H, W)."""
        path = self.samples.iloc[index].image_path
        image = self._kept.get(index)
        if image is None:
            image = read_image(path, as_tensor=True).as_subclass(Tensor)
            if self.resize is not None:
                image = self.resize(image)
                if (len(self._kept) + 1) * image.nbytes <= _MOST_KEPT:
                    self._kept[index] = image
        mask = torch.zeros(image.shape[1:], dtype=torch.uint8)
        return ImageItem(image=Image(image), gt_mask=Mask(mask), gt_label=torch.tensor(0), image_path=path)


class SplitData(AnomalibDataModule):
    """Training, validation and test images, from a build's file of splits.

    While models are compared, the selection set is for validation and test; nothing reads the calibration set. When one
    is finished, the calibration set is for the test, and the selection set's good images, as they are, for the
    validation: EfficientAd, for one, fits the scale of its maps to the images that a datamodule has for that.

    Sets without defects give images resized by the first transform of the trained model's pre-processor, if that is a
    ``Resize`` to one size. The pre-processor then has nothing left to resize, so the model sees the same values.

    Args:
        root: Folder with the file.
        digest: The ``digest`` in that file, so that no job reads other splits than it was planned for.
        use: Step of the build.
        train_batch_size: Images of a training batch.
        eval_batch_size: Images of other batches.
        num_workers: Processes that load images.
        most_training_images: Most images to train on, taken evenly from the list; for models whose training takes time
            with the square of their number.

    Raises:
        ValueError: If the file has another digest.
    """

    def __init__(
        self,
        root: str | Path,
        digest: str,
        use: Literal["comparison", "finish"] = "comparison",
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int = 0,
        most_training_images: int | None = None,
    ) -> None:
        self.validation, self.test = _EVALUATION[use]
        super().__init__(
            train_batch_size,
            eval_batch_size,
            num_workers,
            val_split_mode="same_as_test" if self.validation == self.test else "from_dir",
            test_split_mode="from_dir",
        )
        self.root = Path(root)
        self.most_training_images = most_training_images
        self.content = json.loads((self.root / FILE).read_text(encoding="utf-8"))
        if self.content["digest"] != digest:
            msg = f"{self.root / FILE} has the digest {self.content['digest']}, not {digest}: run the build again."
            raise ValueError(msg)

    def _setup(self, _stage: str | None = None) -> None:
        training = self.content["training"]
        if self.most_training_images is not None and len(training) > self.most_training_images:
            chosen = np.linspace(0, len(training) - 1, self.most_training_images).round().astype(int)
            training = [training[index] for index in chosen]
        self.train_data = _dataset(training, Split.TRAIN)
        self.test_data = _dataset(self.content[self.test], Split.TEST)
        if self.validation != self.test:
            self.val_data = _dataset(self.content[self.validation], Split.VAL)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training images."""
        self._set_resizing(self.train_data)
        return super().train_dataloader()

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation images."""
        self._set_resizing(self.val_data)
        return super().val_dataloader()

    def test_dataloader(self) -> DataLoader:
        """Return the loader of the test images."""
        self._set_resizing(self.test_data)
        return super().test_dataloader()

    def _set_resizing(self, data: AnomalibDataset) -> None:
        if isinstance(data, GoodImages) and self.trainer is not None:
            data.resize = _resizing(self.trainer.lightning_module)


def _dataset(entries: list[dict[str, Any]], split: Split) -> AnomalibDataset:
    """Make a dataset; it has masks only if every defective image has one."""
    has_masks = all(entry["mask"] for entry in entries if entry["label"])
    samples = DataFrame(
        {
            "image_path": [entry["image"] for entry in entries],
            "split": split.value,
            "label": ["defective" if entry["label"] else "good" for entry in entries],
            "label_index": [LabelName.ABNORMAL if entry["label"] else LabelName.NORMAL for entry in entries],
            "mask_path": [entry["mask"] or "" for entry in entries],
        }
    )
    samples.attrs["task"] = "segmentation" if has_masks else "classification"
    if not any(entry["label"] for entry in entries):
        return GoodImages(samples)
    dataset = AnomalibDataset()
    dataset.samples = samples
    return dataset


def _resizing(model: Any) -> Resize | None:
    transform = getattr(getattr(model, "pre_processor", None), "transform", None)
    first = transform.transforms[0] if isinstance(transform, Compose) and transform.transforms else transform
    return first if isinstance(first, Resize) and len(first.size or ()) == 2 else None
