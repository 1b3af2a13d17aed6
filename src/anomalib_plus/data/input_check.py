"""Look at all image files of a run before the run begins."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split, read_image
from anomalib.data.utils.image import is_image_file
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from PIL import Image

from anomalib_plus.data.image_files import ImageFacts, inspect_image, printable
from anomalib_plus.data.mask_pairs import shorten
from anomalib_plus.data.predict_images import report_skipped

logger = logging.getLogger(__name__)

_READER = read_image.__module__
NO_MASK = Path()  # stands for the mask of an anomalous image that has none
PARTS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class ImageFileCheck(Callback):
    """Stop with one error that names the files, instead of failing hours later or reading them wrongly in silence.

    Checks what a stage will read: 16-bit and damaged images, missing masks, masks of another size, empty folders.
    Data of an anomalib datamodule are checked before the model is set up, plain data loaders before the first batch.
    Takes a few milliseconds per file, on one process of a distributed run. Damage that this cannot find (in the middle
    of a JPEG) ends the run when the file is read; its name is logged then.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Check the datasets of the datamodule, which has been set up by now."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(datamodule, AnomalibDataModule) and trainer.is_global_zero:
            essential, *others = (getattr(datamodule, f"{part}_data", None) for part in PARTS[stage])
            if essential is not None and len(essential) == 0:
                msg = f"{datamodule.name} has no images to {TrainerFn(stage).value}: {_place(essential)} is empty."
                raise ValueError(msg)
            check_datasets([essential, *others])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check plain data loaders of training and validation."""
        _check_loaders(trainer, trainer.train_dataloader, trainer.val_dataloaders)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check plain data loaders of a validation run, or of the sanity check that precedes a training run."""
        if trainer.sanity_checking or trainer.state.fn == TrainerFn.VALIDATING:
            _check_loaders(trainer, trainer.val_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check plain data loaders of a test run."""
        _check_loaders(trainer, trainer.test_dataloaders)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check plain data loaders of a prediction run, for example a folder of images."""
        try:
            _check_loaders(trainer, trainer.predict_dataloaders)
        except ValueError as error:
            advice = (
                'To predict the others, use anomalib_plus.data.PredictImages("FOLDER", skip_bad_images=True), '
                "or --data PredictImages --data.path FOLDER --data.skip_bad_images true."
            )
            msg = f"{error}\n{advice}"
            raise ValueError(msg) from None

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """List what ``PredictImages`` skipped."""
        if trainer.is_global_zero and not isinstance(trainer.datamodule, AnomalibDataModule):  # type: ignore[attr-defined]
            report_skipped(_datasets_of(trainer.predict_dataloaders), Path(trainer.default_root_dir))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Name the file on which a run ended, because Pillow's errors do not."""
        text = str(exception)
        file = _file_being_read(exception)
        if file is None and ("in read_image\n" in text or "in read_mask\n" in text):  # sent by a loader's worker
            loaders = (trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders)
            file = _find_undecodable(*loaders, trainer.predict_dataloaders)
        if file is not None:
            message = f"{printable(file)} could not be read. Repair or remove it."
            logger.error(message)
            if hasattr(exception, "add_note"):  # Python 3.11
                exception.add_note(message)


def check_datasets(datasets: Iterable[Any]) -> None:
    """Inspect every image file, and the mask of every anomalous image, that the datasets will read.

    Raises:
        ValueError: If there is something wrong; files with the same fault are named together.
    """
    faults: dict[str, list[Path]] = defaultdict(list)
    for image, mask in dict.fromkeys(pair for dataset in datasets for pair in image_files(dataset)):
        facts = inspect_image(image)
        if facts.fault:
            faults[facts.fault].append(image)
        elif mask == NO_MASK:
            faults["is anomalous but has no mask"].append(image)
        elif mask and (mask_fault := _inspect_mask(mask, facts)):
            faults[f"(a mask) {mask_fault}"].append(mask)
    if faults:
        count = sum(len(paths) for paths in faults.values())
        details = "".join(f"\n  {shorten(paths)}: {fault}" for fault, paths in faults.items())
        msg = f"{count} image files cannot be used; repair or remove them:{details}"
        raise ValueError(msg)


def _inspect_mask(mask: Path, image: ImageFacts) -> str | None:
    facts = inspect_image(mask)
    if facts.fault or not facts.size:
        return facts.fault
    if facts.size == image.size:
        return (inspect_image(mask, decode=True).fault or _compression_noise(mask)) if facts.format == "JPEG" else None
    turned = facts.size[::-1] == image.size
    return "differs in size from its image" + (
        ", as if one were turned: anomalib ignores the orientation that cameras note in EXIF" if turned else ""
    )


def _compression_noise(mask: Path) -> str | None:
    with Image.open(mask) as opened:
        values = np.unique(np.asarray(opened.convert("L")))
    if len(values) <= 2:
        return None
    return f"is a JPEG with {len(values)} grey values, and all above 0 count as anomalous: save it as PNG with two"


def image_files(dataset: Any) -> Iterator[tuple[Path, Path | None]]:
    """Images of a dataset with their masks: anomalib's datasets, ``PredictDataset``, subsets and concatenations.

    Yields nothing for other datasets, nor for samples that are no single image files (videos).
    """
    for inner in getattr(dataset, "datasets", ()):
        yield from image_files(inner)
    if hasattr(dataset, "indices"):  # torch.utils.data.Subset
        inner_files = list(image_files(dataset.dataset))
        yield from (inner_files[index] for index in dataset.indices if inner_files)
    elif hasattr(dataset, "samples"):
        samples = dataset.samples
        masked = samples.attrs.get("task") == "segmentation"
        for image, label, mask in zip(samples.image_path, samples.label_index, samples.mask_path, strict=True):
            if is_image_file(image):
                mask_file = Path(mask) if isinstance(mask, str) else NO_MASK
                yield Path(image), (mask_file if masked and label == LabelName.ABNORMAL else None)
    else:
        yield from ((Path(image), None) for image in getattr(dataset, "image_filenames", ()))


def _check_loaders(trainer: Trainer, *loaders: Any) -> None:
    if trainer.is_global_zero and not isinstance(trainer.datamodule, AnomalibDataModule):  # type: ignore[attr-defined]
        check_datasets(chain.from_iterable(_datasets_of(group) for group in loaders))


def _datasets_of(loaders: Any) -> list[Any]:
    flattened = [] if loaders is None else CombinedLoader(loaders).flattened
    return [getattr(loader, "dataset", None) for loader in flattened]


def _file_being_read(exception: BaseException) -> Path | None:
    """The file that anomalib was reading when an exception of this process was raised."""
    for frame, _ in walk_tb(exception.__traceback__):
        if frame.f_code.co_name in {"read_image", "read_mask"} and frame.f_globals.get("__name__") == _READER:
            return Path(frame.f_locals["path"])
    return None


def _find_undecodable(*loaders: Any) -> Path | None:
    pairs = (pair for group in loaders for dataset in _datasets_of(group) for pair in image_files(dataset))
    files = dict.fromkeys(file for pair in pairs for file in pair if file)
    return next((file for file in files if inspect_image(file, decode=True).fault), None)


def _place(dataset: Any) -> str:
    place = getattr(dataset, "root_category", None) or getattr(dataset, "root", None) or type(dataset).__name__
    return f"{place}/{Split(dataset.split).value}" if getattr(dataset, "split", None) else str(place)
