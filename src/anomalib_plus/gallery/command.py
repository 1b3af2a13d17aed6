"""anomalib-plus gallery: draw each synthetic anomaly on your images, before you train with it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomalib_plus.counts import counted
from anomalib_plus.option_types import at_least

_QUALITY = 90
"""Of JPEG and WEBP files; other formats do not use it."""


def _mask_file(text: str) -> str:
    if text != "foreground" and not Path(text).is_file():
        msg = f"there is no mask {text}; give an image file or foreground"
        raise argparse.ArgumentTypeError(msg)
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomalib-plus gallery", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of images or category in MVTec layout (default: a demo)")
    parser.add_argument(
        "--output", type=Path, required=True, help="image file to write, e.g. gallery.jpg; PNG is larger"
    )
    parser.add_argument("--textures", type=Path, help="folder of texture images for the transforms that paste textures")
    parser.add_argument("--defects", type=Path, help="folder of defects with masks for DefectBank, which needs one")
    parser.add_argument("--roi", type=_mask_file, help='where defects may lie: an image file or "foreground"')
    parser.add_argument("--size", type=at_least(1), default=128, help="side of the resized images (default: 128)")
    parser.add_argument("--images", type=at_least(1), default=3, help="number of images (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the anomalies (default: 0)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Draw every available transform at probability 1 and three severities and write the image.

    Returns:
        The exit status 0. Wrong arguments, missing images and an output that cannot be written exit with status 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    from PIL import Image  # after the options, because --help should be fast

    from anomalib_plus.gallery.drawing import (
        at_severities,
        available_transforms,
        demo_images,
        draw_gallery,
        load_images,
    )
    from anomalib_plus.transforms import DefectBank

    if Image.registered_extensions().get(options.output.suffix.lower()) not in Image.SAVE:
        parser.error(f"--output {options.output} has no suffix of an image file to write: use .jpg, for example.")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output} cannot be written: {error}")
    wanted: dict[str, Any] = {"probability": 1.0, "textures": options.textures}
    if options.roi is not None:
        wanted["roi"] = options.roi
    kinds = available_transforms()
    if options.defects is not None:
        wanted["folder"] = options.defects
        kinds["DefectBank"] = DefectBank
    try:
        count, size = options.images, options.size
        images = demo_images(count, size) if options.data is None else load_images(options.data, count, size)
        synthesizers = {name: at_severities(member, wanted) for name, member in kinds.items()}
        draw_gallery(images, synthesizers, options.seed).save(options.output, quality=_QUALITY)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    megabytes = options.output.stat().st_size / 1e6
    what = f"{', '.join(synthesizers)} on {counted(len(images), 'image')}"
    sys.stdout.write(f"{options.output}, {megabytes:.1f} MB: {what}\n")
    return 0
