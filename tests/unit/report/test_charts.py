"""Charts put values where their axes say, lose no corner, and describe themselves in words."""

import re

import numpy as np
import pytest

from anomalib_plus.report.charts import Axis, histogram_chart, line_chart, scatter_chart
from anomalib_plus.report.figures import curve_charts, histograms, speed_chart, training_charts
from anomalib_plus.report.summary import Summary


def corners(path: str) -> np.ndarray:
    return np.array(re.findall(r"[-\d.e]+", path), float).reshape(-1, 2)


def test_axes() -> None:
    linear, logarithmic = Axis("", 10, 30, 100), Axis("", 1, 100, 100, logarithmic=True)
    assert [linear.coordinate(value) for value in (10, 15, 30)] == [0, 25, 100]
    assert [logarithmic.coordinate(value) for value in (1, 10, 100)] == [0, 50, 100]
    assert (50, "10") in logarithmic.ticks
    assert [label for _, label in linear.ticks] == ["10", "15", "20", "25", "30"]
    for low, high in ((11.6, 47.9), (0.2, 0.9), (3, 30_000), (100, 169), (4, 60)):
        assert 2 <= len(Axis("", low, high, 100, logarithmic=True).ticks) <= 6, (low, high)
    assert all(0 <= coordinate <= 100 for axis in (linear, logarithmic) for coordinate, _ in axis.ticks)


def test_a_line_keeps_its_corners_and_drops_the_points_between() -> None:
    straight = [(x, 0.0) for x in np.linspace(0, 0.5, 30)] + [(0.5, y) for y in np.linspace(0, 1, 30)] + [(1.0, 1.0)]
    chart = line_chart("", "x", "y", [("steps", 0, straight)], unit_square=True)
    width, height = chart.x.length, chart.y.length
    assert corners(chart.lines[0].path) == pytest.approx(
        np.array([(0, height), (width / 2, height), (width / 2, 0), (width, 0)])
    )


def test_a_curve_ends_at_the_limit_of_its_axis() -> None:
    chart = line_chart("", "x", "y", [("line", 0, [(0, 0), (0.2, 0.2), (1, 1)])], unit_square=True, x_limit=0.3)
    (left, bottom), *_, (right, top) = corners(chart.lines[0].path)
    assert (left, bottom) == (0, chart.y.length)
    assert (right, top) == (chart.x.length, pytest.approx(0.7 * chart.y.length))


def test_losses_over_orders_of_magnitude_get_a_logarithmic_axis() -> None:
    falling = [(epoch, 10.0**-epoch) for epoch in range(4)]
    assert line_chart("", "epoch", "loss", [("a", 0, falling)]).y.logarithmic
    assert not line_chart("", "epoch", "loss", [("a", 0, [(0, 1.0), (1, 0.5)])]).y.logarithmic
    assert not line_chart("", "epoch", "loss", [("a", 0, [(0, 1.0), (1, -100.0)])]).y.logarithmic
    assert "M0 " in line_chart("", "epoch", "loss", [("a", 0, [(0, 1.0)])]).lines[0].path


def test_nothing_to_draw_is_no_chart() -> None:
    assert line_chart("", "", "", [("empty", 0, [])]) is None
    assert scatter_chart("", "", "", [("free", 0, 0.0, 0.5, 0.0)]) is None
    assert histogram_chart("", [], []) is None


def test_scatter_labels_do_not_cover_each_other() -> None:
    points = [(f"model {number}", number, 10 + number / 10, 90.0, 1.0) for number in range(12)]
    chart = scatter_chart("", "ms", "%", points)
    assert 0 < sum(marker.label_x is not None for marker in chart.markers) < 12
    assert len(chart.markers) == 12
    assert chart.markers[0].spread > 0
    assert "model 3: 10.3 ms, 90 %" in chart.description


def test_histograms_show_shares_of_each_class() -> None:
    normal, anomalous = [0.0] * 30, [0.0, 1.0, 1.0, 1.0]
    chart = histogram_chart("", normal, anomalous)
    share = {(bar.kind, bar.x): bar.height * chart.y.high / chart.y.length for bar in chart.bars}
    last = max(x for _, x in share)
    expected = {("normal", 0): 1, ("anomalous", 0): 0.25, ("anomalous", last): 0.75}
    assert share == pytest.approx(expected, abs=0.01)
    assert "30 good images from 0 to 0, median 0; 4 defective images from 0 to 1, median 1" in chart.description
    assert histogram_chart("", [2.0], []).bars  # one value alone has a width, too


def test_charts_of_a_results_folder(summary: Summary) -> None:
    speed = speed_chart(summary, "Parts")
    assert [marker.name for marker in speed.markers] == [m for m in summary.models("Parts") if m != "Hopeless"]
    assert speed.x.logarithmic
    assert speed.markers[0].x < speed.markers[-1].x
    curves = curve_charts(summary, "Parts", "nut")
    assert [chart.title for chart in curves] == ["nut: image ROC", "nut: pixel ROC", "nut: PRO"]
    roc, _, pro = curves
    assert (roc.x.high, pro.x.high) == (1.0, 0.3)
    assert (roc.diagonal, pro.diagonal) == (True, False)
    assert len(roc.lines) == 5
    assert len({line.style for line in roc.lines}) == 5
    assert len(histograms(summary, "Fabrics", "linen")) == 5
    charts = training_charts(summary, "Parts")
    assert [name for name, _ in charts[0][1]] == ["bolt", "gasket", "nut"]
    assert len(charts) == 5
