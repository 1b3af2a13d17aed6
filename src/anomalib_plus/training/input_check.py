"""Callbacks that check the image files before a run, and the values of its first batch."""

import logging
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_tb
from typing import Any

from anomalib.data import AnomalibDataModule
from anomalib.data.utils import Split, read_image
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_plus.data.dataset_check import check_datasets, image_samples
from anomalib_plus.data.plain_paths import ADVICE
from anomalib_plus.data.predict_images import report_skipped
from anomalib_plus.data.samples import Sample
from anomalib_plus.data.stage_data import datamodule_of_stage, datasets_of
from anomalib_plus.image_files import inspect_image, printable
from anomalib_plus.layers.checks import check_value_range

logger = logging.getLogger(__name__)

_READER = read_image.__module__
PARTS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class ImageFileCheck(Callback):
    """Check all image files of a stage at its start, and raise one error that names the files.

    Finds 16-bit and damaged images, missing masks, masks of another size and empty folders; all-black masks are a
    warning. An anomalib datamodule is checked before the model is set up, other data before the first batch, in a few
    milliseconds per file, by the first process. Damage in the middle of a JPEG is not found; when it ends the run, the
    file is logged.
    """

    def __init__(self) -> None:
        self._checked: set[Sample] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Check the datasets of this stage's datamodule."""
        self._checked = set()
        datamodule = datamodule_of_stage(trainer)
        if isinstance(datamodule, AnomalibDataModule) and trainer.is_global_zero:
            essential, *others = (getattr(datamodule, f"{part}_data", None) for part in PARTS[stage])
            if essential is not None and len(essential) == 0:
                folder = _folder(essential)
                msg = f"{datamodule.name} has no images to {TrainerFn(stage).value}: {folder} is empty. Check the path."
                raise ValueError(msg)
            self._check([essential, *others])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check the data loaders of training and validation."""
        self._check_loaders(trainer, trainer.train_dataloader, trainer.val_dataloaders)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check the data loaders of a validation run, or of the sanity check that precedes a training run."""
        if trainer.sanity_checking or trainer.state.fn == TrainerFn.VALIDATING:
            self._check_loaders(trainer, trainer.val_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check the data loaders of a test run."""
        self._check_loaders(trainer, trainer.test_dataloaders)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check the data loaders of a prediction run, for example a folder of images."""
        try:
            self._check_loaders(trainer, trainer.predict_dataloaders)
        except ValueError as error:
            advice = (
                'To predict the others, use anomalib_plus.data.PredictImages("FOLDER", skip_bad_images=True), '
                "or --data PredictImages --data.path FOLDER --data.skip_bad_images true."
            )
            msg = f"{error}\n{advice}"
            raise ValueError(msg) from None

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Report the files that ``PredictImages`` skipped."""
        if trainer.is_global_zero:
            report_skipped(datasets_of(trainer.predict_dataloaders), Path(trainer.default_root_dir))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Log the file on which a run ended, because Pillow's errors do not name it, or how to rename refused paths."""
        text = str(exception)
        file = _file_being_read(exception)
        if file is None and ("in read_image\n" in text or "in read_mask\n" in text):  # raised in a loader's worker
            loaders = (trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders)
            file = _find_undecodable(*loaders, trainer.predict_dataloaders)
        if file is not None:
            _add_to(exception, f"{printable(file)} could not be read. Repair or remove it.")
        elif isinstance(exception, ValueError) and "contains non-printable characters" in text:
            _add_to(exception, ADVICE)

    def _check_loaders(self, trainer: Trainer, *loaders: Any) -> None:
        if trainer.is_global_zero:
            self._check(dataset for group in loaders for dataset in datasets_of(group))

    def _check(self, datasets: Iterable[Any]) -> None:
        self._checked |= check_datasets(datasets, self._checked)


class ValueRangeCheck(Callback):
    """Raise ``ValueError`` if the first batch of an epoch, validation, test or prediction leaves [0, 1]."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Check the pre-processed images of the first batch."""
        if batch_idx == 0:
            check_value_range(batch.image, type(pl_module).__name__)

    def on_validation_batch_start(self, *arguments: Any, **names: Any) -> None:
        """Check the pre-processed images of the first batch."""
        self.on_train_batch_start(*arguments[:4], **names)

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start


def _add_to(exception: BaseException, message: str) -> None:
    logger.error(message)
    if hasattr(exception, "add_note"):  # Python 3.11
        exception.add_note(message)


def _file_being_read(exception: BaseException) -> Path | None:
    """Find the file that anomalib was reading when an exception was raised in this process."""
    for frame, _ in walk_tb(exception.__traceback__):
        if frame.f_code.co_name in {"read_image", "read_mask"} and frame.f_globals.get("__name__") == _READER:
            return Path(frame.f_locals["path"])
    return None


def _find_undecodable(*loaders: Any) -> Path | None:
    samples = image_samples(dataset for group in loaders for dataset in datasets_of(group))
    files = dict.fromkeys(file for sample in samples for file in (Path(sample.image), *sample.masks))
    return next((file for file in files if inspect_image(file, decode=True).fault), None)


def _folder(dataset: Any) -> str:
    root = getattr(dataset, "root_category", None) or getattr(dataset, "root", None) or type(dataset).__name__
    return f"{root}/{Split(dataset.split).value}" if getattr(dataset, "split", None) else str(root)
