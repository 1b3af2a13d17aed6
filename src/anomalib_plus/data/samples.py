"""Image files of a dataset; the only reader of anomalib's table of samples."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas
from anomalib.data import AnomalibDataset, PredictDataset
from anomalib.data.utils import LabelName
from torch.utils.data import ConcatDataset, Subset

from anomalib_plus.data.predict_images import PredictImages


class Sample(NamedTuple):
    """One item of a dataset."""

    image: str
    """Path of the image file, or of something else in a dataset of videos."""
    label: int = LabelName.UNKNOWN
    """0 for good, 1 for anomalous, -1 for unknown."""
    masks: tuple[Path, ...] = ()
    """Mask files; none if the dataset has no masks or the image is not anomalous."""
    needs_mask: bool = False
    """True for an anomalous image in a dataset with masks."""
    part: str | None = None
    """Name of the part that the image shows, from a column ``part``; None where the dataset does not tell."""


def read_samples(dataset: AnomalibDataset) -> list[Sample]:
    """List the samples of an anomalib dataset in its order."""
    table = dataset.samples
    has_mask_files = table.attrs.get("task") == "segmentation" and not getattr(dataset, "computes_masks", False)
    nothing = [None] * len(table)
    names = ("image_path", "label_index", "mask_path", "part")
    columns = (list(table[name]) if name in table else nothing for name in names)
    samples = []
    for image, label, mask, part in zip(*columns, strict=True):
        label_index = LabelName.UNKNOWN if pandas.isna(label) else int(label)
        needs_mask = has_mask_files and label_index == LabelName.ABNORMAL
        masks = _mask_files(mask) if needs_mask else ()
        samples.append(Sample(str(image), label_index, masks, needs_mask, None if pandas.isna(part) else str(part)))
    return samples


def samples_of(dataset: Any) -> list[Sample | None]:
    """List the samples of anomalib's datasets and ``PredictImages``, their subsets and concatenations.

    Returns an empty list for any other dataset, and None for each of its items within a concatenation.
    """
    if isinstance(dataset, ConcatDataset):
        return [sample for inner in dataset.datasets for sample in samples_of(inner) or [None] * len(inner)]  # type: ignore[arg-type]
    if isinstance(dataset, Subset):
        samples = samples_of(dataset.dataset)
        return [samples[index] for index in dataset.indices] if samples else []
    if isinstance(dataset, AnomalibDataset):
        return [*read_samples(dataset)]
    if isinstance(dataset, PredictDataset | PredictImages):
        return [Sample(str(image)) for image in dataset.image_filenames]
    return []


def _mask_files(mask: Any) -> tuple[Path, ...]:
    """Normalise an entry: MVTec LOCO has lists of masks, other datasets one file or nothing ("", None or NaN)."""
    files = mask if isinstance(mask, list | tuple) else [mask]
    return tuple(Path(file) for file in files if isinstance(file, str | Path) and str(file))
