"""anomalib-plus score: inspect images and write a table of scores and decisions."""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path, PurePath

from PIL import Image

from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable
from anomalib_plus.inspector.drift import Drift
from anomalib_plus.inspector.images import find_images
from anomalib_plus.inspector.inspection import Inspector
from anomalib_plus.inspector.regions import overlay_file, save_overlay
from anomalib_plus.inspector.result_row import RESULT_COLUMNS, inspect_file
from anomalib_plus.inspector.table import ResultTable, as_cell

_SECONDS_BETWEEN_REPORTS = 10
_MOST_FOLDERS = 20
_PARTICIPLES = {"reject": "rejected", "accept": "accepted", "unreadable": "unreadable"}


@dataclass
class _Tally:
    """Rows of the table, counted.

    Args:
        scored: Scored folders.
        by_folder: Number of images by folder and decision.
        marked: Number of accepted images with a region above the map's threshold.
        unreadable: File and problem of the first unreadable image.
    """

    scored: Sequence[PurePath]
    by_folder: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    marked: int = 0
    unreadable: str = ""

    def add(self, row: Mapping[str, str]) -> None:
        """Count a row."""
        self.by_folder[_folder(row["file"], self.scored)][row["decision"]] += 1
        self.marked += row["decision"] == "accept" and row["area"] != ""
        if row["decision"] == "unreadable" and not self.unreadable:
            self.unreadable = f"{_shown(row['file'])} {row['problem']}"


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
        tally = _score(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; the same command with --resume continues.\n")
        return 130
    for line in _folder_lines(tally.by_folder):
        sys.stdout.write(f"{line}\n")
    counts = sum(tally.by_folder.values(), Counter[str]())
    total = sum(counts.values())
    kinds = ", ".join(f"{counts[decision]} {decision}" for decision in ("accept", "reject", "unreadable"))
    sys.stdout.write(f"{printable(options.output)}: {counted(total, 'image')}, {kinds}\n")
    if tally.marked:
        images = counted(tally.marked, "accepted image has", "accepted images have")
        sys.stdout.write(f"{images} a marked region (x, y, width, height in the table): look there\n")
    if tally.unreadable:
        more = f", and {counts['unreadable'] - 1} more" if counts["unreadable"] > 1 else ""
        sys.stdout.write(f"unreadable: {tally.unreadable}{more} (column problem)\n")
    return 2 if counts["unreadable"] else 1 if counts["reject"] else 0


def _folder_lines(by_folder: Mapping[str, Counter[str]]) -> list[str]:
    """Summarise the decisions of each folder in a line, if there are several; of more than 20, the first by name."""
    if len(by_folder) < 2:
        return []
    lines = []
    for folder in sorted(by_folder)[:_MOST_FOLDERS]:
        counts = by_folder[folder]
        decisions = [*_PARTICIPLES, *sorted(counts.keys() - _PARTICIPLES.keys())]  # damaged rows have others
        found = ", ".join(f"{counts[each]} {_PARTICIPLES.get(each, each)}" for each in decisions if counts[each])
        lines.append(f"{_shown(folder)}: {counted(counts.total(), 'image')}, {found}")
    if left := len(by_folder) - len(lines):
        lines.append(f"and {counted(left, 'more folder')}: see the table")
    return lines


def _shown(file: str) -> str:
    """Return the path in a cell without the apostrophe that is for spreadsheets."""
    return file.removeprefix("'")


def _score(options: argparse.Namespace) -> _Tally:
    """Write the missing rows of the table; return what the table has then."""
    inspector = Inspector.load(options.bundle)
    for warning in inspector.info.warnings:
        sys.stderr.write(f"warning of the build: {warning}\n")
    if options.output.exists() and not options.resume:
        msg = f"{printable(options.output)} exists: add --resume to continue it, remove it, or choose another --output."
        raise ValueError(msg)
    _check_overlays(options)
    images = find_images(options.images, options.recursive)
    first = list(islice(images, 1))  # before there is a table, because there may be no images
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with closing(ResultTable(options.output, ["file", *RESULT_COLUMNS])) as table:
        return _add_rows(table, inspector, chain(first, images), options)


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


def _add_rows(table: ResultTable, inspector: Inspector, images: Iterable[Path], options: argparse.Namespace) -> _Tally:
    tally = _Tally([PurePath(as_cell(Path(each).as_posix())) for each in options.images if Path(each).is_dir()])
    done = set()
    drift = Drift(inspector.info)
    for row in table.rows():
        if row["bundle"] != inspector.info.identity:
            msg = f"{printable(options.output)} has scores of another bundle: choose another output."
            raise ValueError(msg)
        done.add(row["file"])
        drift.add(row)
        tally.add(row)
    for warning in drift.warnings:  # as a reminder
        sys.stderr.write(f"warning: {warning}\n")
    reported = time.monotonic()
    for path in images:
        file = path.as_posix()
        if as_cell(file) in done:
            continue
        result, overlay = inspect_file(inspector, path, options.overlays is not None)
        if options.overlays is not None:
            _save(overlay, options.overlays, path, result)
        row = table.append({"file": file, **result})
        if warning := drift.add(row):
            sys.stderr.write(f"warning: {warning}\n")
        done.add(row["file"])
        tally.add(row)
        if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            sys.stderr.write(f"{counted(len(done), 'image')}\n")
    return tally


def _folder(file: str, scored: Sequence[PurePath]) -> str:
    """Return the folder that an image counts for: the one directly below a scored folder, else its own."""
    path = PurePath(file)
    for folder in scored:
        if path.is_relative_to(folder):
            return str(folder.joinpath(*path.relative_to(folder).parts[:-1][:1]))
    return str(path.parent)


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
