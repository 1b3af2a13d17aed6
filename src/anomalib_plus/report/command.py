"""anomalib-plus report: write tables, charts and heatmaps of a benchmark as one HTML file, Markdown or CSV."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib_plus.counts import counted
from anomalib_plus.image_files import printable
from anomalib_plus.option_types import at_least
from anomalib_plus.report.gallery import GalleryLimits
from anomalib_plus.report.records import PaperNumbers, Store, read_published, read_store
from anomalib_plus.report.summary import Summary

SUFFIXES = (".html", ".md", ".csv")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomalib-plus report", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder that the benchmark wrote to")
    parser.add_argument("-o", "--output", type=_output, action="append", required=True,
                        help=f"file to write, ending in {', '.join(SUFFIXES)}; may be given several times")  # fmt: skip
    parser.add_argument("--title", default="Anomaly detection benchmark", help="title of the report")
    parser.add_argument("--rank-by", metavar="METRIC", help="metric that ranks the models (default: image_auroc)")
    limits = GalleryLimits()
    parser.add_argument("--examples", type=at_least(0), default=limits.per_kind,
                        help="heatmaps of a kind per model and category (default: %(default)s; 0: none)")  # fmt: skip
    parser.add_argument("--max-examples", type=at_least(0), default=limits.examples,
                        help="heatmaps in all, to limit the file size (default: %(default)s)")  # fmt: skip
    parser.add_argument("--picture-size", type=at_least(1), default=limits.pixels,
                        help="longer side of an image (default: %(default)s)")  # fmt: skip
    return parser


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        msg = f"{text} has none of the suffixes {', '.join(SUFFIXES)}"
        raise argparse.ArgumentTypeError(msg)
    return path


def main(arguments: Sequence[str]) -> int:
    """Write the report in every requested format, and warn on stderr about missing results.

    Returns:
        The exit status 0, also if jobs failed: the report lists them. Wrong arguments, a folder without readable
        results and an output that cannot be written exit with status 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        store = read_store(options.results)
        summary = Summary(store, options.rank_by)
        papers = read_published(options.results)
        for output in options.output:
            text, missing = _render(output.suffix.lower(), summary, papers, options)
            content = text.encode("utf-8", "backslashreplace")  # file names may contain bytes that are not UTF-8
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(content)
            sys.stdout.write(f"{printable(output)}: {len(content) / 1e6:.2f} MB\n")
            if missing:
                images = counted(missing, "image of the gallery is", "images of the gallery are")
                _warn(f"{images} missing or cannot be read")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    _warn_about(store)
    return 0


def _render(suffix: str, summary: Summary, papers: PaperNumbers, options: argparse.Namespace) -> tuple[str, int]:
    from anomalib_plus.report.markdown import render_markdown  # here, because --help should be fast
    from anomalib_plus.report.page import render_page
    from anomalib_plus.report.spreadsheet import render_csv

    if suffix == ".html":
        limits = GalleryLimits(options.examples, options.picture_size, options.max_examples)
        return render_page(summary, papers, limits, options.title)
    text = render_markdown(summary, papers, options.title) if suffix == ".md" else render_csv(summary, papers)
    return text, 0


def _warn_about(store: Store) -> None:
    if store.damaged_lines:
        numbers = ", ".join(map(str, store.damaged_lines))
        _warn(f"damaged lines of {store.folder / 'results.jsonl'} were not read: {numbers}")
    if store.shortfall:
        _warn(store.shortfall)
    if store.failed:
        jobs = counted(len(store.failed) + len(store.finished), "job")
        _warn(f"{len(store.failed)} of {jobs} failed; the report lists them")


def _warn(message: str) -> None:
    sys.stderr.write(f"anomalib-plus report: {message}\n")
