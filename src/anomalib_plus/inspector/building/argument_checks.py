"""Checks of a build's arguments that would fail late, or not at all but wrongly."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anomalib_plus.data.mask_pairs import shorten
from anomalib_plus.files import file_hash
from anomalib_plus.image_files import inspect_image, inspect_mask, printable
from anomalib_plus.inspector.building.survey import Survey

_PACKAGES = {"openvino": ("openvino", "onnx", "onnxscript"), "onnx": ("onnxruntime", "onnx", "onnxscript"), "torch": ()}
"""Packages that an export to a format, and its use, need."""


def check_format(form: str) -> None:
    """Raise ``ValueError`` if packages for an export are missing, which would show after the training."""
    absent = [name for name in _PACKAGES[form] if find_spec(name) is None]
    if absent:
        msg = f"--format {form} needs {', '.join(absent)}: pip install {' '.join(absent)}, or choose --format torch."
        raise ValueError(msg)


def check_output(output: Path, *inputs: Path | None) -> None:
    """Raise ``ValueError`` if the output lies in a folder of images, where the next build would take its images."""
    for folder in filter(None, inputs):
        if output.resolve().is_relative_to(folder.resolve()):
            msg = f"--output {printable(output)} lies in the folder of images {printable(folder)}: choose another one."
            raise ValueError(msg)


def check_roi(roi: Path | None) -> None:
    """Raise ``ValueError`` if a region of interest is no readable image, or black everywhere."""
    if roi is None:
        return
    facts = inspect_mask(roi)
    problem = facts.fault or ("is black, so nothing would be inspected" if facts.greys == (0,) else None)
    if problem:
        msg = f"--roi {printable(roi)} {problem}: give an image that is white where parts are inspected."
        raise ValueError(msg)


def check_bad_parts(entries: Sequence[dict[str, Any]], good: Survey) -> None:
    """Raise ``ValueError`` if an image of a bad part cannot be used, or is one of the good parts."""
    images = [Path(entry["image"]) for entry in entries]
    faults = {image: fault for image in images if (fault := inspect_image(image, decode=True).fault)}
    if faults:
        image, fault = next(iter(faults.items()))
        msg = f"{len(faults)} images of bad parts cannot be used; {printable(image)} {fault}. Repair or remove them."
        raise ValueError(msg)
    hashes = {image.sha256 for image in good.images}
    if both := [image for image in images if file_hash(image) in hashes]:
        msg = f"{len(both)} images are both good and bad: {shorten(both)}. Remove them from one of the folders."
        raise ValueError(msg)
