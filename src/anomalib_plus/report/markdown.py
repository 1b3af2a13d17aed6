"""Report in Markdown, for a README or a pull request."""

from anomalib_plus.report import settings, tables
from anomalib_plus.report.conclusions import sentences, short_trainings
from anomalib_plus.report.page import facts
from anomalib_plus.report.records import PaperNumbers
from anomalib_plus.report.summary import Summary


def render_markdown(summary: Summary, papers: PaperNumbers, title: str) -> str:
    """Write leaderboards, categories, papers, costs, failed jobs and the protocol."""
    compared = tables.comparisons(summary, papers)
    blocks = [f"# {_escape(title)}", _bullets(facts(summary)), "## Leaderboard"]
    if summary.store.damaged_lines:
        numbers = ", ".join(map(str, summary.store.damaged_lines))
        blocks.insert(2, f"Damaged lines of results.jsonl, not read: {numbers}.")
    if summary.store.shortfall:
        blocks.insert(2, _escape(summary.store.shortfall))
    blocks += [_escape(text) for data in summary.data_sets for text in sentences(summary, data)]
    blocks += [_escape(found) for data in summary.data_sets if (found := short_trainings(summary, data))]
    blocks += [_table(tables.leaderboard(summary, data)) for data in summary.data_sets]
    blocks.append("## Categories")
    blocks += [_table(table) for data in summary.data_sets for table in tables.category_tables(summary, data)]
    if compared:
        blocks.append("## Paper against measured")
        with_papers = dict.fromkeys(row.data for row in compared)
        blocks += [_table(tables.paper_table(compared, data)) for data in with_papers]
    if summary.costs:
        blocks.append("## Costs")
        blocks += [_table(tables.cost_table(summary, data)) for data in summary.data_sets]
    blocks.append("## Failed jobs")
    failed = [
        (f"{row.model} on {row.data} {row.category}, seed {row.seed}", f"{row.kind}, {row.message}")
        for row in tables.failures(summary)
    ]
    blocks.append(_bullets(failed) if failed else "None.")
    if summary.store.missing:
        blocks += ["## Missing jobs", _table(tables.missing_table(summary))]
    blocks += ["## Protocol", _bullets(_setting_lines(settings.protocol(summary)))]
    blocks += [_table(tables.budget_table(summary)), _bullets(_setting_lines(settings.environment(summary)))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _escape(text: str) -> str:
    """Escape text so that Markdown shows it literally, on one line."""
    escaped = "".join(f"\\{character}" if character in r"\`*_{}[]|" else character for character in text)
    return " ".join(escaped.replace("&", "&amp;").replace("<", "&lt;").split())


def _table(table: tables.Table) -> str:
    rows = [[f"**{_escape(cell.text)}**" if cell.best else _escape(cell.text) for cell in row] for row in table.rows]
    rule = ["---:" if column in table.numeric else "---" for column in range(len(table.columns))]
    lines = [list(map(_escape, table.columns)), rule, *rows]
    return f"{_escape(table.caption)}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(f"- {_escape(name)}: {_escape(value)}" for name, value in pairs)


def _setting_lines(found: list[settings.Setting]) -> list[tuple[str, str]]:
    return [
        (
            setting.name,
            "; ".join(f"{text} ({', '.join(owners)})" if owners else text for text, owners in setting.values),
        )
        for setting in found
    ]
