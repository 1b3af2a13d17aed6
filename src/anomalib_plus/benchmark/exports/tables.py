"""Tables of a run in Markdown and on the terminal."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anomalib_plus.benchmark.exports.formats import EAGER
from anomalib_plus.benchmark.plan import with_variant

_NOTHING = "\N{EN DASH}"


class Rows(NamedTuple):
    """Table: title, names of the columns, rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(records: Sequence[dict[str, Any]], batch_sizes: Sequence[int]) -> list[Rows]:
    """Make the tables of latency, file sizes, agreement with the eager model, and failures."""
    good = [record for record in records if record["error"] is None]
    found = [*(_latency(good, str(size)) for size in batch_sizes), _sizes(good), _agreement(good), _failures(records)]
    return [table for table in found if table.rows]


def to_markdown(found: Iterable[Rows]) -> str:
    """Write tables in Markdown."""
    blocks = []
    for title, columns, rows in found:
        rule = ["---", *["---:"] * (len(columns) - 1)]
        lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (columns, rule, *rows)]
        blocks.append(f"{title}:\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def print_tables(found: Iterable[Rows], console: Console) -> None:
    """Print tables; one that is too wide even with wrapped cells has one line per value instead."""
    for title, columns, rows in found:
        widths = _widths([columns, *rows], console.width - 3 * len(columns) - 1)
        if widths is None:
            _print_upright(title, columns, rows, console)
            continue
        table = Table(title=title, title_justify="left")
        for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
            table.add_column(column, justify="right" if number else "left", width=width)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)


def _widths(lines: Sequence[Sequence[str]], space: int) -> list[int] | None:
    """Widths of columns that break no word; None if they do not fit into the space."""
    columns = list(zip(*lines, strict=True))
    widest = [max(map(cell_len, column)) for column in columns]
    widths = [max(cell_len(word) for cell in column for word in [*cell.split(), ""]) for column in columns]
    spare = space - sum(widths)
    if spare < 0:
        return None
    for _ in range(min(spare, sum(widest) - sum(widths))):
        column = max(range(len(widths)), key=lambda each: widest[each] - widths[each])
        widths[column] += 1
    return widths


def _print_upright(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for name, *values in rows:
        for number, (column, value) in enumerate(zip(columns[1:], values, strict=True)):
            table.add_row(escape(name) if number == 0 else "", column, escape(value))
        table.add_section()
    console.print(table)


def _title(record: dict[str, Any]) -> str:
    return with_variant(record["label"], record["variant"])


def _names(records: Sequence[dict[str, Any]], part: str) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record[part]))


def _latency(records: Sequence[dict[str, Any]], size: str) -> Rows:
    names = _names(records, "backends")
    rows = []
    for record in records:
        backends = record["backends"]
        cells = [_number(backends.get(name, {}).get("latency_ms", {}).get(size)) for name in names]
        timed = {name: entry for name, entry in backends.items() if "speed_up" in entry and name != EAGER}
        best = max(((entry["speed_up"][size], name) for name, entry in timed.items()), default=None)
        pixels = "x".join(map(str, record["image_size"]))
        rows.append([_title(record), pixels, *cells, f"{best[0]:.2f} ({best[1]})" if best else _NOTHING])
    title = f"Median milliseconds of a batch of {size}, and how many times as fast as eager the fastest backend is"
    return Rows(title, ["model", "pixels", *names, "best / eager"], rows)


def _sizes(records: Sequence[dict[str, Any]]) -> Rows:
    names = _names(records, "formats")
    rows = [
        [
            _title(record),
            _number(record["parameters"] / 1e6),
            *(_number(record["formats"].get(name, {}).get("mib")) for name in names),
        ]
        for record in records
    ]
    title = "Parameters in training, and sizes of the exported files in MiB"
    return Rows(title, ["model", "parameters (M)", *names], rows)


def _agreement(records: Sequence[dict[str, Any]]) -> Rows:
    rows = []
    for record in records:
        reference = record["backends"][EAGER]["image_auroc"]
        others = [(name, entry) for name, entry in record["backends"].items() if name != EAGER]
        for name, entry in [*others, ("anomalib's engine", {"error": None, **record["engine"]})]:
            if entry["error"] is not None:
                continue
            auroc, changed = entry["image_auroc"], entry["decisions_changed"]
            known = auroc is not None and reference is not None
            rows.append(
                [
                    _title(record),
                    name,
                    f"{entry['score_difference']:.1e}",
                    f"{entry['map_difference']:.1e}",
                    _NOTHING if changed is None else f"{changed}/{record['images']}",
                    f"{100 * auroc:.2f}" if known else _NOTHING,
                    f"{100 * (auroc - reference):+.2f}" if known else _NOTHING,
                ]
            )
    columns = ["model", "backend", "score", "map", "decisions", "image AUROC", "against eager"]
    title = "Largest differences from the eager model over all images, decisions that differ, image AUROC"
    return Rows(title, columns, rows)


def _failures(records: Sequence[dict[str, Any]]) -> Rows:
    rows = []
    for record in records:
        if record["error"] is not None:
            rows.append([_title(record), "the model", record["error"]])
            continue
        for part in ("formats", "backends"):
            failed = [(name, entry["error"]) for name, entry in record[part].items() if entry["error"] is not None]
            rows += [[_title(record), name, error] for name, error in failed]
    return Rows("Failures", ["model", "what", "error"], rows)


def _number(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
