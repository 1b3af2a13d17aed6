"""anomalib-plus build: from images of good parts to an inspector, by measuring instead of guessing.

Surveys the images, splits them, compares the candidates on synthetic defects within the given minutes, trains the
best one, calibrates its threshold to the false-alarm rate, exports and checks it, and writes a report. A build that was
interrupted goes on when it is started again.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from anomalib_plus.image_files import MIN_SIDE
from anomalib_plus.option_types import at_least, between

_SEEDS = 2**32
"""Seeds that Lightning takes."""


@dataclass(frozen=True)
class Options:
    """Arguments of a build; the help of the command explains them."""

    good: Path
    output: Path
    bad: Path | None = None
    masks: Path | None = None
    roi: Path | None = None
    minutes: float = 20.0
    steps: int | None = None
    false_alarms: float = 0.01
    models: tuple[str, ...] = ()
    max_latency_ms: float | None = None
    format: str = "openvino"
    image_size: tuple[int, int] | None = None
    tile: int | None = None
    group_by: str | None = None
    seed: int = 0
    workers: int | None = None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-plus build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of Options
    )
    add = parser.add_argument
    add("--good", type=Path, required=True, help="folder of images of good parts, 20 at least")
    add("--output", type=Path, required=True, help="folder of the inspector")
    add("--bad", type=Path, help="folder of images of bad parts, to select the model by (default: synthetic defects)")
    add("--masks", type=Path, help="folder of masks of the bad parts")
    add("--roi", type=Path, help="image file, black where parts are not inspected")
    add("--minutes", type=between(0), help="time for everything (default: 20)")
    add("--steps", type=at_least(1), help="optimizer steps of the first round, instead of time: repeatable anywhere")
    add("--false-alarms", type=between(0, 1), help="share of good parts that may be rejected (default: 0.01)")
    add("--models", nargs="+", metavar="NAME", help="candidates: labels, presets or YAML files")
    add("--max-latency-ms", type=between(0), help="limit of the time for one image")
    add("--format", choices=("openvino", "onnx", "torch"), help="(default: openvino)")
    side = at_least(MIN_SIDE)
    add("--image-size", type=side, nargs=2, metavar=("H", "W"), help="resize images to this (default: 128 128)")
    add("--tile", type=side, metavar="PIXELS", help="cut images of full size into tiles, for small defects; slower")
    add("--group-by", metavar="REGEX", help="piece of a file's name that images of one part share; '.*': none do")
    add("--seed", type=at_least(0, _SEEDS - 1), help="seed of everything that is drawn (default: 0)")
    add("--workers", type=at_least(1), help="trainings at a time (default: one per core, at most 4; one on a GPU)")
    add("--dry-run", action="store_true", default=False, help="survey the images, say what would be done, and stop")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Build an inspector.

    Returns:
        The exit status: 0 if the inspector is written, 130 after Ctrl-C. Wrong arguments exit with 2.

    Raises:
        ValueError: If the images cannot be used.
        RuntimeError: If no candidate succeeds.
    """
    parser = _parser()
    parsed = vars(parser.parse_args(arguments))
    dry_run = parsed.pop("dry_run")
    for name in {"models", "image_size"} & parsed.keys():
        parsed[name] = tuple(parsed[name])
    options = Options(**parsed)
    if options.masks and not options.bad:
        parser.error("--masks belong to bad parts: give their images by --bad.")
    if options.roi and not options.roi.is_file():
        parser.error(f"--roi {options.roi} does not exist.")
    # Read when the hub's client is imported: a build must not wait for a download, nor depend on one.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        from anomalib_plus.inspector.building.build import Build

        build = Build(options, console)
        build.plan()
        if not dry_run:
            build.run()
    except OSError as error:
        of_system = error.errno is not None  # such as a full disk; others are raised with a hint of their own
        parser.error(f"{error}. What is done is kept: repair this, and run it again." if of_system else str(error))
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Run the same command again to go on.\n")
        return 130
    return 0
