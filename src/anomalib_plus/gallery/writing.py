"""Writing of a set of synthetic defects in MVTec layout."""

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from anomalib_plus.files import unfinished_folder
from anomalib_plus.image_files import inspect_image, printable, too_small
from anomalib_plus.transforms.visibility import is_grey
from anomalib_plus.validation.holding_out import hold_out
from anomalib_plus.validation.kinds import Kind, PlannedImage, add_defect, plan_defects

MANIFEST = "manifest.csv"
HOLDOUT = 0.2
COLUMNS = ("file", "mask", "source", "kind", "severity", "seed")


def write_defects(
    paths: Sequence[Path],
    output: Path,
    kinds: Sequence[Kind],
    count: int | None = None,
    severity: float | None = None,
    seed: int = 0,
    with_training: bool = False,
) -> int:
    """Write ``test/KIND``, ``ground_truth/KIND``, ``test/good`` and a manifest, the same bytes for a seed.

    Images keep their resolution and are written as PNG, grey ones with one channel. Everything is written to a hidden
    folder beside ``output``, which gets its name at the end: a killed run leaves no ``output`` and can be repeated.

    Args:
        paths: Files of good images.
        output: Folder to create; it may exist if it is empty.
        kinds: Kinds of defects.
        count: Number of defective images; one for each good image of the test if None.
        severity: Severity of all defects; drawn if None.
        seed: Seed of everything drawn.
        with_training: Write ``train/good`` too; a fifth of the images is held out for the test.

    Returns:
        The number of defective images.

    Raises:
        FileExistsError: If ``output`` is a file or a folder that is not empty.
        ValueError: If an image cannot be read, or a defect not be made.
    """
    _check(paths, output)
    trained, tested = hold_out(len(paths), HOLDOUT, seed) if with_training else ([], list(range(len(paths))))
    count = len(tested) if count is None else count
    order = torch.randperm(len(tested), generator=torch.Generator().manual_seed(seed)).tolist()
    sources = [str(paths[tested[order[number % len(tested)]]]) for number in range(count)]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    with unfinished_folder(output) as unfinished:
        rows = _write_good([str(paths[index]) for index in trained], unfinished, "train/good", common)
        rows += _write_good(sorted(set(sources)), unfinished, "test/good", common)
        rows += _write_defective(plan_defects(sources, kinds, seed, severity), kinds, unfinished, common)
        _write_manifest(rows, unfinished)
    return count


def _write_manifest(rows: Sequence[tuple[object, ...]], folder: Path) -> None:
    with (folder / MANIFEST).open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _check(paths: Sequence[Path], output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        msg = f"{printable(output)} exists and is not empty: give another folder, or delete it."
        raise FileExistsError(msg)
    for path in paths:
        facts = inspect_image(path, decode=True)
        if fault := facts.fault or (facts.size and too_small(facts.size[1], facts.size[0])):
            msg = f"{printable(path)} {fault}."
            raise ValueError(msg)


def _write_defective(
    planned: Sequence[PlannedImage], kinds: Sequence[Kind], folder: Path, common: Path
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    numbers: dict[str, int] = defaultdict(int)
    by_name = {kind.name: kind for kind in kinds}
    for one in planned:
        clean = read_image(one.image_path, as_tensor=True).as_subclass(Tensor)
        image, mask = add_defect(clean, by_name[one.kind], one.severity, one.seed, printable(one.image_path))
        stem = f"{numbers[one.kind]:03d}"
        numbers[one.kind] += 1
        file, mask_file = f"test/{one.kind}/{stem}.png", f"ground_truth/{one.kind}/{stem}_mask.png"
        _save(_picture(image), folder / file)
        _save(Image.fromarray((mask * 255).numpy()), folder / mask_file)
        rows.append((file, mask_file, _relative(one.image_path, common), one.kind, one.severity, one.seed))
    return rows


def _write_good(paths: Sequence[str], folder: Path, place: str, common: Path) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for number, path in enumerate(paths):
        file = f"{place}/{number:03d}.png"
        _save(_picture(read_image(path, as_tensor=True).as_subclass(Tensor)), folder / file)
        rows.append((file, "", _relative(path, common), "good", "", ""))
    return rows


def _relative(path: str, common: Path) -> str:
    return Path(path).relative_to(common).as_posix()


def _picture(image: Tensor) -> Image.Image:
    return to_pil_image(image[:1] if bool(is_grey(image[None])) else image)


def _save(picture: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
