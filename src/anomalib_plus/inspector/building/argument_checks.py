"""Early checks of a build's arguments, which would otherwise fail late or give wrong results."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anomalib_plus.counts import counted
from anomalib_plus.data.mask_pairs import shorten
from anomalib_plus.image_files import inspect_mask, printable
from anomalib_plus.inspector.building.splits import LEAST_IMAGES
from anomalib_plus.inspector.building.survey import Survey, SurveyedImage, survey_image

_PACKAGES = {"openvino": ("openvino", "onnx", "onnxscript"), "onnx": ("onnxruntime", "onnx", "onnxscript"), "torch": ()}
"""Packages that an export to a format, and its use, need."""


def check_format(form: str) -> None:
    """Raise ``ValueError`` if packages for an export are missing, which would show after the training."""
    absent = [name for name in _PACKAGES[form] if find_spec(name) is None]
    if absent:
        msg = f"--format {form} needs {', '.join(absent)}: pip install {' '.join(absent)}, or choose --format torch."
        raise ValueError(msg)


def check_number(found: Survey) -> None:
    """Raise ``ValueError`` if there are too few images; the message says which files cannot be used."""
    if len(found.images) >= LEAST_IMAGES:
        return
    reasons = "".join(f"\n  {name} {reason}" for name, reason in found.unusable[:5])
    more = f" {counted(len(found.unusable), 'file')} cannot be used, for example:{reasons}" if reasons else ""
    usable = counted(len(found.images), "usable image")
    msg = (
        f"{found.folder} has {usable} of good parts: {LEAST_IMAGES} are the least, and up to about 250 each one "
        f"helps.{more}"
    )
    raise ValueError(msg)


def check_folders(output: Path, good: Path, bad: Path | None, masks: Path | None) -> None:
    """Check that nothing but good parts lies in the folder of good parts, and that the output can be written.

    Raises:
        ValueError: If bad parts or masks lie in the folder of good parts, or the output lies in a folder of images,
            where the next build would take its images.
        OSError: If the output cannot be a folder, or may not be written.
    """
    for option, folder in (("--bad", bad), ("--masks", masks)):
        if folder is not None and folder.resolve().is_relative_to(good.resolve()):
            msg = (
                f"{option} {printable(folder)} lies in the folder of good parts {printable(good)}, which is searched "
                "with its subfolders: give folders beside each other."
            )
            raise ValueError(msg)
    for folder in filter(None, (good, bad, masks)):
        if output.resolve().is_relative_to(folder.resolve()):
            msg = f"--output {printable(output)} lies in the folder of images {printable(folder)}: choose another one."
            raise ValueError(msg)
    place = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        msg = f"--output {printable(output)} cannot be written, because {printable(place)} is no folder or read-only."
        raise NotADirectoryError(msg)


def check_roi(roi: Path | None, good: Survey) -> None:
    """Raise ``ValueError`` if a region of interest is no mask of the size of the good images, or black everywhere."""
    if roi is None:
        return
    facts = inspect_mask(roi)
    problem = facts.fault or ("is black, so nothing would be inspected" if facts.greys == (0,) else None)
    if others := sum(image.size != facts.size for image in good.images):
        width, height = facts.size or (0, 0)
        problem = problem or f"has {width}x{height} pixels, and {others} of {len(good.images)} good images another size"
    if problem:
        msg = f"--roi {printable(roi)} {problem}: draw black and white on a copy of one of the images."
        raise ValueError(msg)


def check_bad_parts(entries: Sequence[dict[str, Any]], good: Survey) -> None:
    """Raise ``ValueError`` if an image of a bad part cannot be used, or is one of the good parts."""
    found = {Path(entry["image"]): survey_image(Path(entry["image"])) for entry in entries}
    if faults := {image: fault for image, fault in found.items() if isinstance(fault, str)}:
        image, fault = next(iter(faults.items()))
        images = counted(len(faults), "image of a bad part", "images of bad parts")
        msg = f"{images} cannot be used; {printable(image)} {fault}. Repair or remove what cannot be used."
        raise ValueError(msg)
    hashes = {image.sha256 for image in good.images}
    if both := [path for path, image in found.items() if isinstance(image, SurveyedImage) and image.sha256 in hashes]:
        images = counted(len(both), "image is", "images are")
        msg = f"{images} both good and bad: {shorten(both)}. Each must be in one of the folders only."
        raise ValueError(msg)
