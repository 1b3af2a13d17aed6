"""Datamodule of a build's splits."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import LabelName, Split
from pandas import DataFrame

FILE = "splits.json"
"""File with the ``digest`` and the entries (``image``, ``label``, ``mask``, ``source``, ``part``) of each split."""

_EVALUATION = {"comparison": ("selection", "selection"), "finish": ("originals", "calibration")}
"""Splits for validation and test, for each use."""


class SplitData(AnomalibDataModule):
    """Training, validation and test images, from a build's file of splits.

    While models are compared, the selection set is for validation and test; nothing reads the calibration set. When one
    is finished, the calibration set is for the test, and the selection set's good images, as they are, for the
    validation: EfficientAd, for one, fits the scale of its maps to the images that a datamodule has for that.

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
            "part": [entry["part"] for entry in entries],
        }
    )
    samples.attrs["task"] = "segmentation" if has_masks else "classification"
    dataset = AnomalibDataset()
    dataset.samples = samples
    return dataset
