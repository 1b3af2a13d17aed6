"""Report as one HTML file that needs no other file and no network."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from anomalib_plus import __version__
from anomalib_plus.report import conclusions, figures, settings, tables
from anomalib_plus.report.charts import LEFT, TOP, Chart
from anomalib_plus.report.gallery import Example, GalleryLimits, choose, decisions, example
from anomalib_plus.report.records import PaperNumbers, part
from anomalib_plus.report.summary import Summary

_COLOURS, _DASHES = 8, 4


@dataclass(frozen=True)
class Gallery:
    """Examples of a run, its decisions, and the length of its training if that was short."""

    examples: list[Example]
    decisions: str | None
    short: str | None


def render_page(summary: Summary, papers: PaperNumbers, limits: GalleryLimits, title: str) -> tuple[str, int]:
    """Write the page; return the HTML text and the number of gallery images that could not be read."""
    galleries, missing, left_out = _galleries(summary, limits)
    compared = tables.comparisons(summary, papers)
    script = read_script()
    context: dict[str, Any] = {
        "title": title,
        "summary": summary,
        "facts": facts(summary),
        "version": __version__,
        **embed_script(script),
        "leaderboards": [tables.leaderboard(summary, data) for data in summary.data_sets],
        "category_tables": {data: tables.category_tables(summary, data) for data in summary.data_sets},
        "paper_tables": [tables.paper_table(compared, data) for data in dict.fromkeys(row.data for row in compared)],
        "cost_tables": [tables.cost_table(summary, data) for data in summary.data_sets] if summary.costs else [],
        "speed_charts": [
            (chart, [(marker.name, marker.style) for marker in chart.markers])
            for data in summary.data_sets
            if (chart := figures.speed_chart(summary, data))
        ],
        "training": {data: found for data in summary.data_sets if (found := figures.training_charts(summary, data))},
        "curves": _by_category(summary, figures.curve_charts),
        "histograms": _by_category(summary, figures.histograms),
        "galleries": galleries,
        "left_out": left_out,
        "conclusions": [text for data in summary.data_sets for text in conclusions.sentences(summary, data)],
        "short_trainings": [
            sentence for data in summary.data_sets if (sentence := conclusions.short_trainings(summary, data))
        ],
        "failures": tables.failures(summary),
        "missing": tables.missing_table(summary) if summary.store.missing else None,
        "budgets": tables.budget_table(summary),
        "protocol": settings.protocol(summary),
        "environment": settings.environment(summary),
        "arguments": settings.model_arguments(summary),
        "model_styles": {data: _styles_of_finished(summary, data) for data in summary.data_sets},
    }
    return environment().get_template("report.html.j2").render(context), missing


def facts(summary: Summary) -> list[tuple[str, str]]:
    """Summarise the benchmark: jobs, models, data sets, seeds, devices, time."""
    ends = [str(record["finished"]) for record in summary.records if record.get("finished")]
    starts = [str(record["started"]) for record in summary.records if record.get("started")]
    devices = {str(device) for r in summary.records if (device := part(r, "environment").get("device"))}
    planned = summary.store.planned
    found = [] if planned is None else [("planned jobs", str(planned))]
    found += [
        ("finished jobs", str(len(summary.store.finished))),
        ("failed jobs", str(len(summary.store.failed))),
        ("models", str(len(summary.models()))),
        ("data sets", ", ".join(summary.data_sets)),
        ("seeds", str(len({str(record["seed"]) for record in summary.records}))),
        ("device", ", ".join(sorted(devices)) or "unknown"),
    ]
    if starts and ends:
        found.append(("run", f"{min(starts)[:16]} to {max(ends)[:16]}".replace("T", " ")))
    return found


def _styles_of_finished(summary: Summary, data: str) -> list[tuple[str, int]]:
    """Return the models with results on a data set and their styles."""
    return [(model, style) for model, style in figures.styles(summary).items() if summary.finished(data, model)]


def _by_category(summary: Summary, draw: Any) -> dict[str, dict[str, list[Chart]]]:
    found: dict[str, dict[str, list[Chart]]] = {}
    for data in summary.data_sets:
        for of_category in summary.categories(data):
            if charts := draw(summary, data, of_category):
                found.setdefault(data, {})[of_category] = charts
    return found


def _galleries(summary: Summary, limits: GalleryLimits) -> tuple[dict[str, dict[str, dict[str, Gallery]]], int, int]:
    """Collect galleries by data set, category and model, and count missing images and examples left out."""
    runs = [
        (data, of_category, model, record)
        for data in summary.data_sets
        for of_category in summary.categories(data)
        for model, record in figures.first_runs(summary, data, of_category).items()
    ]
    chosen, left_out = choose((record for *_, record in runs), limits)
    found: dict[str, dict[str, dict[str, Gallery]]] = {}
    missing = 0
    for data, of_category, model, record in runs:
        if entries := chosen.get(record["job_id"]):
            folder, pixels = summary.store.folder, limits.pixels
            shown = [example(entry, record, model, folder, pixels) for entry in entries]
            missing += sum(image.uri is None for each in shown for image in each.images)
            gallery = Gallery(shown, decisions(record), conclusions.short_training([record]))
            found.setdefault(data, {}).setdefault(of_category, {})[model] = gallery
    return found, missing, left_out


def read_script() -> str:
    """Return the page's script: sorting of tables, colours, printing."""
    return files(__package__).joinpath("templates", "report.js").read_text(encoding="utf-8")


def embed_script(script: str) -> dict[str, Any]:
    """Return ``script``, our own, and ``script_hash``, by which the page's policy allows it and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return {"script": Markup(script), "script_hash": base64.b64encode(digest).decode()}  # noqa: S704 -- our own


@cache
def environment(package: str | None = None) -> Environment:
    """Return the templates of the report, and those of another package before them."""
    own = PackageLoader(__package__)
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package), own]) if package else own,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["style_class"] = lambda number: f"c{number % _COLOURS} d{number // _COLOURS % _DASHES}"
    found.globals["chart_left"], found.globals["chart_top"] = LEFT, TOP
    return found
