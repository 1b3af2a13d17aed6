"""Checks of all image files that datasets will read."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from anomalib.data.utils.image import is_image_file

from anomalib_plus.counts import counted
from anomalib_plus.data.mask_pairs import shorten
from anomalib_plus.data.samples import Sample, samples_of
from anomalib_plus.image_files import ImageFacts, inspect_image, inspect_mask

logger = logging.getLogger(__name__)


def check_datasets(datasets: Iterable[Any], checked: Collection[Sample] = ()) -> set[Sample]:
    """Inspect the image files, and the masks of anomalous images, that the datasets will read.

    All-black masks are a warning, not an error: anomalib's synthetic anomalies have such masks, too.

    Args:
        datasets: Datasets; those whose files :func:`samples_of` does not know are skipped.
        checked: Samples to skip because they have been inspected before.

    Returns:
        The inspected samples.

    Raises:
        ValueError: If a file cannot be used; the message groups the files by fault.
    """
    faults: dict[str, list[Path]] = defaultdict(list)
    blank: list[Path] = []
    samples = [sample for sample in image_samples(datasets) if sample not in checked]
    for sample in samples:
        image = Path(sample.image)
        facts = inspect_image(image)
        masks = {} if facts.fault else {mask: inspect_mask(mask) for mask in sample.masks}
        if facts.fault:
            faults[facts.fault].append(image)
        elif sample.needs_mask and not masks:
            faults["is anomalous but has no mask"].append(image)
        for mask, mask_facts in masks.items():
            if fault := _fault_of_mask(mask_facts, facts):
                faults[f"(a mask) {fault}"].append(mask)
        if masks and all(mask_facts.greys == (0,) for mask_facts in masks.values()):
            blank.extend(masks)
    if faults:
        count = sum(len(paths) for paths in faults.values())
        details = "".join(f"\n  {shorten(paths)}: {fault}" for fault, paths in faults.items())
        msg = f"{counted(count, 'image file')} cannot be used; repair or remove:{details}"
        raise ValueError(msg)
    if blank:
        of_masks = f"of {counted(sum(len(sample.masks) for sample in samples), 'mask')} of anomalous images"
        logger.warning(
            "%s all black: %s. Pixel metrics count every pixel of these images as "
            "good. Draw the defects with values above 0, or move images without a defect to the good ones.",
            counted(len(blank), f"{of_masks} is", f"{of_masks} are"),
            shorten(blank),
        )
    return set(samples)


def _fault_of_mask(mask: ImageFacts, image: ImageFacts) -> str | None:
    if mask.fault or not mask.size:
        return mask.fault
    if mask.size != image.size:
        rotated = mask.size[::-1] == image.size
        return "differs in size from its image" + (
            ", as if one were rotated: anomalib ignores the orientation that cameras write to EXIF" if rotated else ""
        )
    if mask.format == "JPEG" and (count := len(mask.greys)) > 2:
        return f"is a JPEG with {count} grey values, and all above 0 count as anomalous: save it as PNG with two"
    return None


def image_samples(datasets: Iterable[Any]) -> Iterator[Sample]:
    """Yield each sample once, without those that are not image files (videos)."""
    samples = dict.fromkeys(sample for dataset in datasets for sample in samples_of(dataset))
    return (sample for sample in samples if sample is not None and is_image_file(sample.image))
