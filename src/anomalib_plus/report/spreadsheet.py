"""Numbers of the report as CSV, one per line, unrounded."""

from io import StringIO

import pandas as pd

from anomalib_plus.report import tables
from anomalib_plus.report.configurations import model_name
from anomalib_plus.report.records import PaperNumbers, category, finite
from anomalib_plus.report.summary import Figure, Summary

COLUMNS = ["data", "model", "category", "kind", "name", "mean", "std", "seeds", "paper", "gap", "message"]
_FORMULA_STARTS = ("=", "+", "-", "@", "\t")


def render_csv(summary: Summary, papers: PaperNumbers) -> str:
    """Write every number.

    ``kind`` is ``metric`` or ``cost`` for one category; ``metric average`` or ``cost average`` for the average over the
    model's categories, with their number in ``category``; ``failure`` for a failed job, with the kind of error in
    ``name`` and the seed in ``seeds``; or ``missing`` for a planned job without a result, with its seed. Otherwise
    ``seeds`` is the number of seeds. Text that a spreadsheet would read as a formula is prefixed by an apostrophe.
    """
    compared = {(row.data, row.model, row.category, row.metric): row for row in tables.comparisons(summary, papers)}
    rows: list[tuple] = []
    for data in summary.data_sets:
        for model in summary.models(data):
            for kind, names in (("metric", summary.metrics), ("cost", summary.costs)):
                for name in names:
                    for of_category in summary.categories(data):
                        figure = summary.in_category(data, model, of_category, name)
                        row = compared.get((data, model, of_category, name))
                        reported = (row.paper, row.gap) if row else (None, None)
                        if figure:
                            rows.append((data, model, of_category, kind, name, *_numbers(figure), *reported, None))
                    average = summary.over_categories(data, model, name)
                    if average:
                        covered = f"{average[1]} of {len(summary.categories(data))}"
                        numbers = _numbers(average[0])
                        rows.append((data, model, covered, f"{kind} average", name, *numbers, None, None, None))
    rows += [
        (row.data, row.model, row.category, "failure", row.kind, None, None, row.seed, None, None, row.message)
        for row in tables.failures(summary)
    ]
    rows += [
        (entry["data"]["label"], model_name(entry), category(entry), "missing", *[None] * 3, entry["seed"], *[None] * 3)
        for entry in summary.store.missing or []
    ]
    stream = StringIO()
    rows = [tuple(map(_harmless, row)) for row in rows]
    pd.DataFrame(rows, columns=COLUMNS, dtype=object).to_csv(stream, index=False, lineterminator="\n")
    return stream.getvalue()


def _numbers(figure: Figure) -> tuple[float, float | None, int]:
    return figure.mean, finite(figure.std), figure.n


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # it would end the line: pandas does not quote it
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
