"""anomalib-plus synthesize: write images of synthetic defects and their masks, made from images of good parts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib_plus.counts import counted
from anomalib_plus.option_types import at_least, between


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomalib-plus synthesize", description=__doc__)
    parser.add_argument(
        "--data",
        required=True,
        help="folder of good images or of a category in MVTec layout, or a datamodule's YAML file or name",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write, in MVTec layout")
    parser.add_argument("--count", type=at_least(1), help="number of defective images (default: one per good image)")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds of defects (default: all)")
    parser.add_argument(
        "--severity", type=between(0, 1, includes_high=True), help="in (0, 1] (default: drawn from 0.3 to 0.8)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: 0)")
    parser.add_argument(
        "--roi", help='where defects may lie: an image file, "foreground" (by Otsu\'s threshold) or "everywhere"'
        " (default: on the object, where there is one before a background)",
    )  # fmt: skip
    parser.add_argument(
        "--train", action="store_true", help="write train/good too, and hold out a fifth of the images for the test"
    )
    return parser


def _good_images(data: str) -> list[Path]:
    """List the good images of a folder, or the good training images of a datamodule."""
    from anomalib.data import AnomalibDataModule, UnknownDatamoduleError, get_datamodule

    from anomalib_plus.data.good_images import find_good_images

    if Path(data).suffix in {".yaml", ".yml"}:
        datamodule = AnomalibDataModule.from_config(data)
    elif data.isidentifier() and not Path(data).exists():
        try:
            datamodule = get_datamodule({"class_path": data})
        except (UnknownDatamoduleError, TypeError) as error:  # unknown, or with arguments that must be given
            msg = (
                f"There is no folder {data}, and no datamodule {data} without arguments: give a folder or a YAML file."
            )
            raise ValueError(msg) from error
    else:
        return find_good_images(Path(data))
    datamodule.prepare_data()
    datamodule.setup()
    samples = datamodule.train_data.samples
    return [Path(path) for path in samples.image_path[samples.label_index == 0]]


def main(arguments: Sequence[str]) -> int:
    """Write the images.

    Returns:
        The exit status 0. Wrong arguments, images that are missing or cannot be read and an output folder that exists
        exit with status 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    from anomalib_plus.gallery.writing import write_defects
    from anomalib_plus.plugin import register
    from anomalib_plus.validation.kinds import default_kinds

    register()
    try:
        kinds = default_kinds(options.kinds, options.roi)
        for kind in kinds:
            kind.augmenter.check()
        paths = _good_images(options.data)
        if Path(options.data).is_dir() and options.output.resolve().is_relative_to(Path(options.data).resolve()):
            msg = f"--output {options.output} lies in the folder of images {options.data}: choose another one."
            raise ValueError(msg)
        count = write_defects(
            paths, options.output, kinds, options.count, options.severity, options.seed, options.train
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    written, used = (counted(number, "image") for number in (count, len(paths)))
    sys.stdout.write(f"{options.output}: {written} of defects, made from {used} of good parts\n")
    return 0
