"""Look at all image files of a run before the run begins."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split
from anomalib.data.utils.image import is_image_file
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.combined_loader import CombinedLoader

from anomalib_plus.data.image_files import inspect_image
from anomalib_plus.data.mask_pairs import shorten

NO_MASK = Path()  # stands for the mask of an anomalous image that has none
PARTS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class ImageFileCheck(Callback):
    """Stop with one error that names the files, instead of failing hours later or reading them wrongly in silence.

    Checks what a stage will read: 16-bit and damaged images, missing masks, masks of another size, empty folders.
    Data of an anomalib datamodule are checked before the model is set up, plain data loaders before the first batch.
    Takes a fraction of a millisecond per file, on one process of a distributed run.
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
        _check_loaders(trainer, trainer.predict_dataloaders)


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
        elif mask:
            mask_facts = inspect_image(mask)
            if mask_facts.fault:
                faults[f"(a mask) {mask_facts.fault}"].append(mask)
            elif mask_facts.size != facts.size:
                faults["(a mask) differs in size from its image"].append(mask)
    if faults:
        count = sum(len(paths) for paths in faults.values())
        details = "".join(f"\n  {shorten(paths)}: {fault}" for fault, paths in faults.items())
        msg = f"{count} image files cannot be used:{details}"
        raise ValueError(msg)


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
        flat = [loader for group in loaders if group is not None for loader in CombinedLoader(group).flattened]
        check_datasets(getattr(loader, "dataset", None) for loader in flat)


def _place(dataset: Any) -> str:
    place = getattr(dataset, "root_category", None) or getattr(dataset, "root", None) or type(dataset).__name__
    return f"{place}/{Split(dataset.split).value}" if getattr(dataset, "split", None) else str(place)
