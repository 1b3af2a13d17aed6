"""anomalib-plus demo: images of good and defective parts, and a trained inspector, to try the other commands on."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from anomalib_plus.counts import counted

_NAMES = ("washer", "brick", "gravel", "grass", "sheet")
"""Categories of ``DemoSurfaces``; naming them here keeps torch out of the help."""
_SEED = 0
_GOOD = 250  # from about this number on, a build supports its default false-alarm rate of 1 %


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomalib-plus demo", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder for images and inspector")
    parser.add_argument("--category", choices=_NAMES, default=_NAMES[0], help="what to draw (default: washer)")
    parser.add_argument("--good", type=int, default=_GOOD, help=f"images of good parts (default: {_GOOD})")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Write the demo, in seconds and without a download.

    FOLDER gets ``train/good``, ``test`` and ``ground_truth`` (masks) in MVTec AD's layout and, for the washer,
    ``inspector``: a bundle that was trained on such images.

    Returns:
        The exit status 0. A folder with the same demo is kept. One with something else, and wrong arguments, exit
        with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    if options.good < 1:
        parser.error(f"--good {options.good} is not positive: a build needs 20 images or more.")
    from anomalib_plus.data.demo_surfaces.writing import check_category, write_category

    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_category(folder, options.category, _SEED, options.good)
    try:
        check_category(folder, options.category, _SEED, options.good)
    except ValueError as error:
        parser.error(str(error))
    good, test, inspector = folder / "train" / "good", folder / "test", folder / "inspector"
    sys.stdout.write(
        f"{good}: {counted(options.good, 'image')} of good parts\n"
        f"{test}: good and defective parts that were not trained on; masks in {folder / 'ground_truth'}\n"
        f"Build an inspector:  anomalib-plus build --good {good} --output inspector  (20 minutes, or --minutes N)\n"
    )
    if options.category == _NAMES[0]:
        with as_file(files("anomalib_plus") / "inspector" / "demo_bundle") as bundle:
            ignore = shutil.ignore_patterns("README.md", "*.yaml", "__pycache__")
            shutil.copytree(bundle, inspector, ignore=ignore, dirs_exist_ok=True)
        sys.stdout.write(
            f"Try a trained one:   anomalib-plus score {inspector} {test} --recursive"
            " --output demo_scores.csv --overlays demo_overlays\n"
        )
    return 0
