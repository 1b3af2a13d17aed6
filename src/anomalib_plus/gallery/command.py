"""``anomalib-plus gallery``: draw each synthetic anomaly on your images, before you train with it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"{number} is not positive: give 1 or more"
        raise argparse.ArgumentTypeError(msg)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomalib-plus gallery", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of images or category in MVTec layout (default: a demo)")
    parser.add_argument("--output", type=Path, required=True, help="image file to write, e.g. gallery.png")
    parser.add_argument("--textures", type=Path, help="folder of texture images for the transforms that paste textures")
    parser.add_argument("--size", type=_positive, default=256, help="side of the resized images (default: 256)")
    parser.add_argument("--images", type=_positive, default=4, help="number of images (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the anomalies (default: 0)")
    return parser


def _demo_folder() -> Path:
    from anomalib_plus.data import DemoSurfaces

    demo = DemoSurfaces()
    demo.prepare_data()
    return demo.root / demo.category


def main(arguments: Sequence[str]) -> int:
    """Draw every transform at probability 1 and write the image.

    Returns:
        The exit status 0. Wrong arguments, missing images and an output that cannot be written exit with status 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    from PIL import Image  # after the options, because --help should be fast

    from anomalib_plus.gallery.drawing import available_transforms, constructor, draw_gallery, load_images

    if options.output.suffix.lower() not in Image.registered_extensions():
        parser.error(f"--output {options.output} has no suffix of an image file: use .png, for example.")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output} cannot be written: {error}")
    wanted: dict[str, Any] = {"probability": 1.0, "textures": options.textures}
    try:
        images = load_images(options.data or _demo_folder(), options.images, options.size)
        synthesizers = {
            name: member(**{key: value for key, value in wanted.items() if key in constructor(member)})
            for name, member in available_transforms().items()
        }
        draw_gallery(images, synthesizers, options.seed).save(options.output)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.write(f"{options.output}: {', '.join(synthesizers)} on {len(images)} images\n")
    return 0
