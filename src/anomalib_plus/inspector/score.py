"""``anomalib-plus score``: inspect images and write a table of scores and decisions."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable
from anomalib_plus.inspector.images import find_images
from anomalib_plus.inspector.inspection import Inspector
from anomalib_plus.inspector.regions import overlay_file, save_overlay
from anomalib_plus.inspector.result_row import RESULT_COLUMNS, inspect_file
from anomalib_plus.inspector.table import ResultTable, as_cell

_SECONDS_BETWEEN_REPORTS = 10


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-plus score",
        description=__doc__,
        epilog="Exit status: 0 if all images are accepted, 1 if any is rejected, 2 if any is unreadable or on errors.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder with inspector.json")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, patterns, or .txt files with one image per line"
    )
    parser.add_argument("--output", type=Path, required=True, help="table to write, e.g. scores.csv")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="folder for images with the anomaly map laid over")
    parser.add_argument("--resume", action="store_true", help="continue a table; images with a row are skipped")
    parser.add_argument("--recursive", action="store_true", help="search the subfolders of folders too")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Inspect images one by one; each has its row before the next is read.

    Returns:
        The exit status: 0 if every image of the table is accepted, 1 if any is rejected, 2 if any is unreadable. Wrong
        arguments, an unusable bundle and a table that cannot be written exit with status 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        counts = _score(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; the same command with --resume continues.\n")
        return 130
    total = sum(counts.values())
    kinds = ", ".join(f"{counts[decision]} {decision}" for decision in ("accept", "reject", "unreadable"))
    sys.stdout.write(f"{printable(options.output)}: {counted(total, 'image')}, {kinds}\n")
    return 2 if counts["unreadable"] else 1 if counts["reject"] else 0


def _score(options: argparse.Namespace) -> Counter[str]:
    """Write the missing rows of the table; return the number of images by decision."""
    inspector = Inspector.load(options.bundle)
    for warning in inspector.info.warnings:
        sys.stderr.write(f"warning of the build: {warning}\n")
    if options.output.exists() and not options.resume:
        msg = f"{printable(options.output)} exists: add --resume to continue it, remove it, or choose another --output."
        raise ValueError(msg)
    _check_overlays(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with closing(ResultTable(options.output, ["file", *RESULT_COLUMNS])) as table:
        return _add_rows(table, inspector, options)


def _check_overlays(options: argparse.Namespace) -> None:
    """Raise ``ValueError`` if overlays would be found as images."""
    if options.overlays is None or not options.recursive:
        return
    for folder in (Path(each).resolve() for each in options.images if Path(each).is_dir()):
        if options.overlays.resolve().is_relative_to(folder):
            msg = (
                f"--overlays {printable(options.overlays)} lies in {printable(folder)}, which is searched with its "
                "subfolders: choose a folder outside."
            )
            raise ValueError(msg)


def _add_rows(table: ResultTable, inspector: Inspector, options: argparse.Namespace) -> Counter[str]:
    counts: Counter[str] = Counter()
    done = set()
    for row in table.rows():
        if row["bundle"] != inspector.info.identity:
            msg = f"{printable(options.output)} has scores of another bundle: choose another output."
            raise ValueError(msg)
        done.add(row["file"])
        counts[row["decision"]] += 1
    reported = time.monotonic()
    for path in find_images(options.images, options.recursive):
        file = path.as_posix()
        if as_cell(file) in done:
            continue
        result, overlay = inspect_file(inspector, path, options.overlays is not None)
        if options.overlays is not None:
            _save(overlay, options.overlays, path, result)
        row = table.append({"file": file, **result})
        done.add(row["file"])
        counts[row["decision"]] += 1
        if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            sys.stderr.write(f"{counted(sum(counts.values()), 'image')}\n")
    return counts


def _save(overlay: Image.Image | None, folder: Path, path: Path, result: dict[str, object]) -> None:
    """Save an overlay, if there is one; warn where one is missing, because the decision is valid without a picture."""
    if overlay is not None:
        try:
            save_overlay(overlay, folder, path)
        except OSError as error:
            result["problem"] = f"no overlay: {error}"
    if result["decision"] != "unreadable" and "problem" in result:
        file = printable(overlay_file(folder, path))
        sys.stderr.write(
            f"warning: {file} was not written, the decision is kept: {printable(str(result['problem']))}\n"
        )
