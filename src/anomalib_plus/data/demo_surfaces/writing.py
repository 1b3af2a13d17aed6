"""Write a category as a folder in MVTec AD's layout, atomically."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from anomalib_plus.data.demo_surfaces.defects import DEFECTS
from anomalib_plus.data.demo_surfaces.drawing import SHEET, draw_image
from anomalib_plus.data.demo_surfaces.photographs import TONES
from anomalib_plus.files import unfinished_folder

CATEGORIES = ("washer", *TONES, SHEET)
TRAIN_GOOD, TEST_GOOD, TEST_PER_DEFECT = 60, 20, 10

RECORD = "drawn.json"
RECIPE = 1  # increment whenever a seed gives other images than before


def write_category(directory: Path, category: str, seed: int, train_good: int | None = None) -> None:
    """Draw all images into a temporary folder beside ``directory`` and rename it at the end.

    A killed run leaves no half-written category. If several processes write at once, the first to finish wins.

    Args:
        directory: Folder of the category, in MVTec AD's layout.
        category: One of ``CATEGORIES``.
        seed: Seed of all images.
        train_good: Number of good images for training, 60 by default; the first ones are the same for any number.
    """
    try:
        with unfinished_folder(directory) as unfinished:
            _write_images(unfinished, category, seed, train_good)
            (unfinished / RECORD).write_text(json.dumps(_record(category, seed, train_good)) + "\n")
    except OSError:
        if not (directory / RECORD).is_file():
            raise


def check_category(directory: Path, category: str, seed: int, train_good: int | None = None) -> None:
    """Raise ``ValueError`` unless a folder was drawn for these arguments of :func:`write_category` by this version."""
    record = directory / RECORD
    found, wanted = json.loads(record.read_text()) if record.is_file() else None, _record(category, seed, train_good)
    if found != wanted:
        msg = (
            f"{directory} holds other images than requested (expected {wanted}, found {found}). "
            "Choose another folder, or delete that folder to draw it again."
        )
        raise ValueError(msg)


def _record(category: str, seed: int, train_good: int | None) -> dict[str, str | int]:
    record: dict[str, str | int] = {"category": category, "seed": seed, "recipe": RECIPE}
    return record if train_good is None else record | {"train_good": train_good}


def _write_images(directory: Path, category: str, seed: int, train_good: int | None) -> None:
    groups = [("train", "good", train_good or TRAIN_GOOD), ("test", "good", TEST_GOOD)]
    groups += [("test", kind, TEST_PER_DEFECT) for kind in DEFECTS]
    for split, kind, count in groups:
        for number in range(count):
            image, mask = draw_image(seed, category, split, kind, number)
            _save(image, directory / split / kind / f"{number:03d}.png")
            if kind != "good":
                _save(mask.astype(np.uint8) * 255, directory / "ground_truth" / kind / f"{number:03d}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)  # noise hardly compresses: level 6 costs half the run
