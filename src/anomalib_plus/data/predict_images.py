"""Dataset for prediction that can skip files that cannot be read."""

import csv
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from anomalib.data import ImageBatch, ImageItem
from anomalib.data.utils import read_image
from torch.utils.data import Dataset
from torchvision.transforms.v2 import Transform

from anomalib_plus.counts import counted
from anomalib_plus.image_files import IMAGE_SUFFIXES, find_image_files, inspect_image, is_image_name, printable

logger = logging.getLogger(__name__)


class BadImage(NamedTuple):
    """File or folder that cannot be used, and the reason."""

    path: Path
    reason: str


class PredictImages(Dataset):
    """Images of a folder or one image file, for ``Engine.predict(dataset=...)`` and ``anomalib predict --data``.

    Like anomalib's ``PredictDataset``, but all files are decoded once before the first prediction, so that a damaged
    file cannot end a run halfway. The models of this package log the skipped files again after the predictions and
    write them to ``skipped_images.csv`` in the results folder.

    Args:
        path: A folder, searched with all its subfolders, or an image file.
        skip_bad_images: Skip files that cannot be read or would be read wrongly (16-bit images), with a warning for
            each; ``skipped`` lists them. If False, such a file raises an error.
        transform: Applied to every image.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If there are no images, a file is bad and ``skip_bad_images`` is False, or all files are bad.
    """

    def __init__(self, path: str | Path, skip_bad_images: bool = False, transform: Transform | None = None) -> None:
        self.transform = transform
        self.skip_bad_images = skip_bad_images
        self.skipped: list[BadImage] = []
        self.image_filenames: list[Path] = []
        found, closed_folders = _find(Path(path))
        for file in found:
            fault = inspect_image(file, decode=True).fault
            if fault:
                self.skipped.append(BadImage(file, fault))
            else:
                self.image_filenames.append(file)
        self.skipped += [BadImage(folder, "may not be searched: change its permissions") for folder in closed_folders]
        if not (found or closed_folders):
            msg = f"{printable(path)} holds no image ({', '.join(IMAGE_SUFFIXES)})."
            raise ValueError(msg)
        if self.skipped and not (skip_bad_images and self.image_filenames):
            advice = "repair or remove" if skip_bad_images else "repair, or pass skip_bad_images=True"
            images = counted(len(found), "image")
            msg = f"{len(self.skipped)} of {images} cannot be used; {advice}:{_lines(self.skipped)}"
            raise ValueError(msg)
        for bad in self.skipped:
            logger.warning("Skipped %s: %s", printable(bad.path), bad.reason)

    def __len__(self) -> int:
        """Return the number of images to predict."""
        return len(self.image_filenames)

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image (3, H, W) in [0, 1], with its path."""
        file = self.image_filenames[index]
        try:
            image = read_image(file, as_tensor=True)
        except Exception as error:
            msg = f"{printable(file)} could be read at the start of the run, but not any more: {error}"
            raise OSError(msg) from error
        return ImageItem(image=self.transform(image) if self.transform else image, image_path=str(file))

    @property
    def collate_fn(self) -> Callable[[list[ImageItem]], ImageBatch]:
        """Function that collates images of one size into a batch."""
        return ImageBatch.collate


def report_skipped(datasets: Iterable[object], folder: Path) -> None:
    """Log the files that ``PredictImages`` skipped and write them to ``skipped_images.csv`` in a folder.

    An existing list is overwritten, even by an empty one. If that fails, a warning gives the reason.
    """
    chosen = [dataset for dataset in datasets if isinstance(dataset, PredictImages) and dataset.skip_bad_images]
    skipped = [bad for dataset in chosen for bad in dataset.skipped]
    file = folder / "skipped_images.csv"
    if skipped:
        predicted = counted(sum(map(len, chosen)), "image")
        logger.warning("%s predicted, %d skipped (%s):%s", predicted, len(skipped), file, _lines(skipped))
    try:
        if skipped or (chosen and file.exists()):
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                # Absolute paths, which no spreadsheet interprets as formulas.
                csv.writer(stream).writerows([BadImage._fields, *skipped])
    except OSError as error:  # not worth losing finished predictions
        logger.warning("The list of skipped images could not be written: %s", error)


def _find(path: Path) -> tuple[list[Path], list[Path]]:
    """Find image files at or below a path, without following links to folders, and folders that cannot be searched.

    Paths are absolute and free of "..", because anomalib's visualizer names output folders by them.
    """
    if not path.is_dir():
        if not os.path.lexists(path):
            msg = f"{printable(path)} does not exist."
            raise FileNotFoundError(msg)
        return [path.parent.resolve() / path.name] if is_image_name(path.name) else [], []
    closed: list[Path] = []

    def note(error: OSError) -> None:
        closed.append(Path(error.filename))

    return sorted(find_image_files(path.resolve(), on_error=note)), closed


def _lines(bad_images: list[BadImage]) -> str:
    return "".join(f"\n  {printable(bad.path)}: {bad.reason}" for bad in bad_images)
