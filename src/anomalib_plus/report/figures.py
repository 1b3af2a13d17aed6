"""Charts of the records: accuracy against speed, training losses, ROC and PRO curves, score histograms."""

from collections.abc import Mapping
from statistics import mean

from anomalib_plus.report.charts import Chart, histogram_chart, line_chart, scatter_chart
from anomalib_plus.report.records import Record, finite, pairs, part, parts
from anomalib_plus.report.summary import Summary
from anomalib_plus.report.words import metric_title

CURVES = (  # name in the records, title, x label, y label, diagonal
    ("roc_image", "image ROC", "false positive rate", "true positive rate", True),
    ("roc_pixel", "pixel ROC", "false positive rate", "true positive rate", True),
    ("pro", "PRO", "false positive rate", "per-region overlap", False),
)


def styles(summary: Summary) -> dict[str, int]:
    """Return a style number per model, the same in all charts."""
    return {model: number for number, model in enumerate(summary.models())}


def speed_chart(summary: Summary, data: str) -> Chart | None:
    """Draw the ranking metric against the latency of one image."""
    style = styles(summary)
    points = []
    for model in summary.models(data):
        speed = summary.over_categories(data, model, "latency_ms_batch1")
        accuracy = summary.over_categories(data, model, summary.rank_by)
        if speed and accuracy:
            spread = 100 * (accuracy[0].std or 0.0)
            points.append((model, style[model], speed[0].mean, 100 * accuracy[0].mean, spread))
    metric = metric_title(summary.rank_by)
    title = f"{data}: {metric} against latency of one image"
    return scatter_chart(title, "latency of one image (ms)", f"{metric} (%)", points)


def training_charts(summary: Summary, data: str) -> list[tuple[Chart, list[tuple[str, int]]]]:
    """Draw the training loss of each model, one line per category (mean over seeds), with its legend."""
    found = []
    for model in summary.models(data):
        series = []
        for number, of_category in enumerate(summary.categories(data)):
            losses: dict[float, list[float]] = {}
            for row in (row for run in summary.finished(data, model, of_category) for row in parts(run, "training")):
                epoch, loss = finite(row.get("epoch")), finite(row.get("train_loss"))
                if epoch is not None and loss is not None:
                    losses.setdefault(epoch, []).append(loss)
            if losses:
                series.append(
                    (of_category, number, [(epoch, mean(values)) for epoch, values in sorted(losses.items())])
                )
        chart = line_chart(model, "epoch", "training loss", series)
        if chart:
            found.append((chart, [(category, number) for category, number, _ in series]))
    return found


def curve_charts(summary: Summary, data: str, of_category: str) -> list[Chart]:
    """Draw image ROC, pixel ROC and PRO of a category, one line per model: its run with the lowest seed."""
    style = styles(summary)
    records = first_runs(summary, data, of_category)
    charts = []
    for name, title, x_label, y_label, diagonal in CURVES:
        series = [
            (model, style[model], pairs(part(part(record, "curves"), name), "x", "y"))
            for model, record in records.items()
        ]
        limits = [finite(part(record, "protocol").get("aupro_fpr_limit")) for record in records.values()]
        limit = max((value for value in limits if value), default=1.0) if name == "pro" else 1.0
        chart = line_chart(
            f"{of_category}: {title}", x_label, y_label, series, unit_square=True, x_limit=limit, diagonal=diagonal
        )
        if chart:
            charts.append(chart)
    return charts


def histograms(summary: Summary, data: str, of_category: str) -> list[Chart]:
    """Draw the image scores of good and defective test images, one chart per model: its run with the lowest seed."""
    charts = []
    for model, record in first_runs(summary, data, of_category).items():
        known = pairs(part(record, "scores"), "values", "labels")
        normal = [value for value, label in known if not label]
        chart = histogram_chart(model, normal, [value for value, label in known if label])
        if chart:
            charts.append(chart)
    return charts


def first_runs(summary: Summary, data: str, of_category: str) -> Mapping[str, Record]:
    """Return the finished run with the lowest seed of each model."""
    runs = {model: summary.finished(data, model, of_category) for model in summary.models(data)}
    return {model: found[0] for model, found in runs.items() if found}
