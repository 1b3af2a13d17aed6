"""Tables of the report as plain data, for HTML and Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from anomalib_plus.report.configurations import budget_words, model_name
from anomalib_plus.report.records import PaperNumbers, Record, category, part
from anomalib_plus.report.summary import Figure, Summary
from anomalib_plus.report.words import (
    MISSING,
    cost_text,
    cost_title,
    cost_value,
    figure_text,
    metric_title,
    percent,
    points,
)


@dataclass(frozen=True)
class Cell:
    """Text of a cell, its sort key (None: the text), and whether it is the best in its row or column."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Caption, column titles and rows; the first cell of a row is its title. ``numeric`` columns are right-aligned."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()


def _figure_cell(figure: Figure | None, best: float | None) -> Cell:
    if figure is None:
        return Cell(MISSING)
    return Cell(figure_text(figure), figure.mean, best is not None and figure.mean == best)


def leaderboard(summary: Summary, data: str) -> Table:
    """Rank the models of a data set; only ranked models can be the best of a column."""
    ranking = summary.ranking(data)
    expected = len(summary.categories(data))
    complete = [model for rank, model in ranking if rank is not None]
    shown = [name for name in summary.metrics if any(summary.over_categories(data, m, name) for _, m in ranking)]
    shown.sort(key=lambda name: name != summary.rank_by)
    best = {
        name: max((own.mean for model in complete if (own := summary.over_all(data, model, name))), default=None)
        for name in shown
    }
    rows = []
    for rank, model in ranking:
        ranked_by = summary.over_categories(data, model, summary.rank_by)
        seeds, covered = (ranked_by[0].n, ranked_by[1]) if ranked_by else (0, 0)
        cells = [Cell(model), Cell(MISSING) if rank is None else Cell(str(rank), rank)]
        for name in shown:
            found = summary.over_categories(data, model, name)
            competes = model in complete and summary.over_all(data, model, name)
            cell = _figure_cell(found[0] if found else None, best[name] if competes else None)
            if found and covered and found[1] != covered:  # an average over other categories than the ranking metric
                cell = Cell(f"{cell.text} ({found[1]} of {expected})", cell.value)
            cells.append(cell)
        failures = len(summary.of_model(summary.store.failed, model, data))
        cells += [Cell(f"{covered} of {expected}", covered), Cell(str(seeds), seeds), Cell(str(failures), failures)]
        rows.append(cells)
    columns = ["model", "rank", *map(metric_title, shown), "categories", "seeds", "failed jobs"]
    caption = f"{data}: mean ± spread over seeds, in percent, ranked by {metric_title(summary.rank_by)}"
    return Table(caption, columns, rows, frozenset(range(1, len(columns))))


def category_tables(summary: Summary, data: str) -> list[Table]:
    """Make one table per metric: categories in rows, models in columns, the best of each row marked."""
    models = summary.models(data)
    tables = []
    for name in sorted(summary.metrics, key=lambda name: name != summary.rank_by):
        rows = []
        for of_category in summary.categories(data):
            figures = [summary.in_category(data, model, of_category, name) for model in models]
            best = max((figure.mean for figure in figures if figure), default=None)
            rows.append([Cell(of_category), *(_figure_cell(figure, best) for figure in figures)])
        if any(cell.value is not None for row in rows for cell in row[1:]):
            columns = ["category", *models]
            caption = f"{data}: {metric_title(name)} by category, in percent"
            tables.append(Table(caption, columns, rows, frozenset(range(1, len(columns)))))
    return tables


@dataclass(frozen=True)
class Comparison:
    """Number of a paper beside ours. ``category`` is a name, or "mean of N" for the average over N categories."""

    data: str
    model: str
    category: str
    metric: str
    paper: float
    measured: Figure

    @property
    def gap(self) -> float:
        """Measured minus paper."""
        return self.measured.mean - self.paper


def comparisons(summary: Summary, papers: PaperNumbers) -> list[Comparison]:
    """Compare all numbers that were both published and measured.

    The averages at the end of each model cover the categories with both numbers, not the paper's whole table.
    """
    names = {summary.titles[record["job_id"]]: _class_name(record) for record in summary.records}
    found = []
    for data in summary.data_sets:
        for model in summary.models(data):
            for metric in summary.metrics:
                rows = [
                    Comparison(data, model, of_category, metric, papers[names[model], of_category, metric], measured)
                    for of_category in summary.categories(data)
                    if (names[model], of_category, metric) in papers
                    and (measured := summary.in_category(data, model, of_category, metric))
                ]
                found += rows
                if len(rows) > 1:
                    measured = Figure(
                        mean(row.measured.mean for row in rows), None, min(row.measured.n for row in rows)
                    )
                    paper = mean(row.paper for row in rows)
                    found.append(Comparison(data, model, f"mean of {len(rows)}", metric, paper, measured))
    return found


def _class_name(record: Record) -> str:
    return str(record["model"].get("class_path") or record["model"]["label"]).rpartition(".")[2]


def paper_table(found: Sequence[Comparison], data: str) -> Table:
    """Make the table of the papers' and the measured numbers of a data set, with the gap in percentage points."""
    rows = [
        [
            Cell(row.model),
            Cell(row.category),
            Cell(metric_title(row.metric)),
            Cell(percent(row.paper), row.paper),
            Cell(figure_text(row.measured), row.measured.mean),
            Cell(points(row.gap), row.gap),
            Cell(str(row.measured.n), row.measured.n),
        ]
        for row in found
        if row.data == data
    ]
    columns = ["model", "category", "metric", "paper", "measured", "gap (points)", "seeds"]
    return Table(f"{data}: paper against measured, in percent", columns, rows, frozenset(range(3, 7)))


def cost_table(summary: Summary, data: str) -> Table:
    """Make the table of costs, averaged over categories and seeds."""
    models = summary.models(data)
    shown = [name for name in summary.costs if any(summary.over_categories(data, m, name) for m in models)]
    rows = []
    for model in models:
        found = [(name, summary.over_categories(data, model, name)) for name in shown]
        cells = [
            Cell(cost_text(name, cost[0].mean), cost_value(name, cost[0].mean)) if cost else Cell(MISSING)
            for name, cost in found
        ]
        rows.append([Cell(model), *cells])
    columns = ["model", *map(cost_title, shown)]
    return Table(f"{data}: costs, averaged over categories and seeds", columns, rows, frozenset(range(1, len(columns))))


@dataclass(frozen=True)
class Failure:
    """Failed job with its error."""

    data: str
    category: str
    model: str
    seed: str
    kind: str
    message: str
    traceback: str


def failures(summary: Summary) -> list[Failure]:
    """Return the failed jobs."""
    found = []
    for record in summary.store.failed:
        job = record["data"]["label"], category(record), summary.titles[record["job_id"]], str(record["seed"])
        kind, message, trace = (str(part(record, "error").get(key) or "") for key in ("kind", "message", "traceback"))
        found.append(Failure(*job, kind or "unknown", message or "the record gives no message", trace))
    return found


def missing_table(summary: Summary) -> Table:
    """Make the table of planned jobs without a result, by model and category."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for entry in summary.store.missing or []:
        place = model_name(entry), str(entry["data"]["label"]), category(entry)
        seeds.setdefault(place, []).append(str(entry["seed"]))
    rows = [
        [*map(Cell, (*place, ", ".join(found))), Cell(str(len(found)), len(found))] for place, found in seeds.items()
    ]
    columns = ["model", "data set", "category", "seeds", "jobs"]
    return Table("Planned jobs without a result", columns, rows, frozenset({4}))


def budget_table(summary: Summary) -> Table:
    """Make the table of training budgets, seeds and jobs by model and data set."""
    rows = []
    for data in summary.data_sets:
        for model in summary.models(data):
            own = summary.of_model(summary.records, model, data)
            budgets = sorted({budget_words(part(record, "budget")) for record in own})
            seeds = sorted({str(record["seed"]) for record in own}, key=lambda seed: (len(seed), seed))
            classes = sorted({str(record["model"].get("class_path") or model_name(record)) for record in own})
            cells = [model, data, "; ".join(budgets), ", ".join(seeds), ", ".join(classes)]
            rows.append([*map(Cell, cells), Cell(str(len(own)), len(own))])
    columns = ["model", "data set", "training budget", "seeds", "class", "jobs"]
    return Table("What was trained", columns, rows, frozenset({5}))
