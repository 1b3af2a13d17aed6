"""Geometry of the charts. A template draws them as inline SVG; the style sheet colours them (dark, light, print).

Series differ in colour and in dashes or marker shape.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, WIDE, HEIGHT = 340, 440, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 42
_BINS = 24

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """Linear or logarithmic axis over [low, high], ``length`` units long."""

    label: str
    low: float
    high: float
    length: float
    logarithmic: bool = False

    def coordinate(self, value: float) -> float:
        """Return the distance of a value from the low end."""
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        value = math.log(value) if self.logarithmic else value
        return round((value - low) / (high - low) * self.length, 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Coordinates and labels of about five round values."""
        spans_decades = self.logarithmic and self.high >= 10 * self.low
        locator = LogLocator(subs=(1, 2, 5)) if spans_decades else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        inside = [v for v in locator.tick_values(self.low, self.high) if self.low * 0.9999 <= v <= self.high * 1.0001]
        if spans_decades and len(inside) > 6:
            inside = [value for value in inside if math.isclose(math.log10(value) % 1, 0, abs_tol=1e-6)]
        return [(self.coordinate(value), f"{value:.4g}") for value in inside]


@dataclass(frozen=True)
class Line:
    """Named line; ``path`` is the SVG path in chart coordinates."""

    name: str
    style: int
    path: str


@dataclass(frozen=True)
class Marker:
    """Named point with its spread (pixels up and down), its text, and the location of its name."""

    name: str
    style: int
    x: float
    y: float
    spread: float
    text: str
    label_x: float | None = None
    label_y: float = 0
    anchor: str = "start"


@dataclass(frozen=True)
class Bar:
    """Bar of a histogram in chart coordinates."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Chart:
    """Axes with lines, markers and bars. ``description`` is the text for screen readers."""

    title: str
    description: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    markers: Sequence[Marker] = ()
    bars: Sequence[Bar] = ()
    diagonal: bool = False
    width: int = WIDTH
    height: int = HEIGHT


def _axes(
    x: tuple[str, float, float],
    y: tuple[str, float, float],
    *,
    log_y: bool = False,
    log_x: bool = False,
    width: int = WIDTH,
) -> tuple[Axis, Axis]:
    return Axis(*x, width - LEFT - RIGHT, log_x), Axis(*y, HEIGHT - TOP - BOTTOM, log_y)


def _limits(values: Iterable[float], logarithmic: bool) -> tuple[float, float]:
    values = list(values)
    low, high = min(values), max(values)
    if logarithmic:
        return low / 1.3, high * 1.3
    margin = (high - low) * 0.06 or max(abs(high) * 0.1, 0.1)
    return low - margin, high + margin


def _path(points: Points, x: Axis, y: Axis) -> str:
    """Return an SVG path without the inner points of straight segments."""
    corners: list[tuple[float, float]] = []
    for value, height in points:
        point = x.coordinate(value), round(y.length - y.coordinate(height), 1)
        if corners and point == corners[-1]:
            continue
        if len(corners) > 1:
            (x0, y0), (x1, y1) = corners[-2:]
            forward = (x1 - x0) * (point[0] - x1) + (y1 - y0) * (point[1] - y1) >= 0
            if forward and abs((x1 - x0) * (point[1] - y0) - (point[0] - x0) * (y1 - y0)) < 0.05:
                corners.pop()
        corners.append(point)
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in corners)


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[tuple[str, int, Points]],
    *,
    unit_square: bool = False,
    x_limit: float = 1.0,
    diagonal: bool = False,
) -> Chart | None:
    """Lines over a common x axis; None if there are no points.

    ``series`` are name, style number and points of each line. ``unit_square`` fixes the axes to [0, x_limit] and
    [0, 1]; the lines end at ``x_limit``. ``diagonal`` adds the ROC curve of a random guess.
    """
    drawn = [(name, style, _cut(points, x_limit) if unit_square else points) for name, style, points in series]
    drawn = [(name, style, points) for name, style, points in drawn if points]
    if not drawn:
        return None
    heights = [height for _, _, points in drawn for _, height in points]
    log_y = not unit_square and min(heights) > 0 and max(heights) > 20 * min(heights)
    if unit_square:
        x, y = _axes((x_label, 0.0, x_limit), (y_label, 0.0, 1.0))
    else:
        values = [value for _, _, points in drawn for value, _ in points]
        ends = min(values), max(*values, min(values) + 1)
        x, y = _axes((x_label, *ends), (y_label, *_limits(heights, log_y)), log_y=log_y)
    lines = [Line(name, style, _path(points, x, y)) for name, style, points in drawn]
    ends_text = "; ".join(f"{name} from {p[0][1]:.3g} to {p[-1][1]:.3g}" for name, _, p in drawn)
    description = f"{y_label} against {x_label}{', logarithmic' if log_y else ''}. {ends_text}."
    return Chart(title, description, x, y, lines=lines, diagonal=diagonal)


def _cut(points: Points, limit: float) -> Points:
    """Cut points at ``limit``, with an interpolated last point."""
    inside = [(x, y) for x, y in points if x <= limit]
    beyond = next(((x, y) for x, y in points if x > limit), None)
    if inside and beyond and inside[-1][0] < limit:
        (x0, y0), (x1, y1) = inside[-1], beyond
        inside.append((limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)))
    return inside


def scatter_chart(
    title: str, x_label: str, y_label: str, points: Sequence[tuple[str, int, float, float, float]]
) -> Chart | None:
    """Named points over a logarithmic x axis; None if there are none.

    ``points`` are name, style number, x (positive), y and spread of y.
    """
    points = [point for point in points if point[2] > 0]
    if not points:
        return None
    heights = [edge for _, _, _, y, spread in points for edge in (y - spread, y + spread)]
    x_limits, y_limits = _limits([point[2] for point in points], True), _limits(heights, False)
    x, y = _axes((x_label, *x_limits), (y_label, *y_limits), log_x=True, width=WIDE)
    markers: list[Marker] = []
    at = [(x.coordinate(value), y.length - y.coordinate(height)) for _, _, value, height, _ in points]
    taken = [(left - 7, top - 7, left + 7, top + 7) for left, top in at]
    for (name, style, value, height, spread), (left, top) in zip(points, at, strict=True):
        pixels = spread / (y.high - y.low) * y.length
        text = f"{name}: {value:.3g} {x_label}, {height:.3g} {y_label}"
        spot = _free_spot(left, top, 6.4 * len(name), taken, (x.length, y.length))
        markers.append(Marker(name, style, left, round(top, 1), round(pixels, 1), text, *spot))
    description = "; ".join(marker.text for marker in markers) + "."
    return Chart(title, description, x, y, markers=markers, width=WIDE)


def _free_spot(
    left: float, top: float, width: float, taken: list[tuple[float, float, float, float]], size: tuple[float, float]
) -> tuple[float | None, float, str]:
    """Find a free location for a name beside its point and add it to ``taken``; None if there is none.

    Returns:
        Location of the text, and to which end of the text it refers; the legend has the names without a location.
    """
    for x, baseline, anchor, x0 in (
        (left + 10, top + 4, "start", left + 10),
        (left - 10, top + 4, "end", left - 10 - width),
        (left, top - 12, "middle", left - width / 2),
        (left, top + 20, "middle", left - width / 2),
    ):
        box = x0, baseline - 10, x0 + width, baseline + 3
        inside = box[0] >= 0 and box[2] <= size[0] and box[1] >= 0 and box[3] <= size[1]
        if inside and not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            taken.append(box)
            return round(x, 1), round(baseline, 1), anchor
    return None, 0, "start"


def histogram_chart(title: str, normal: Sequence[float], anomalous: Sequence[float]) -> Chart | None:
    """Histogram of scores: good images as filled bars, defective ones as outlines; None without scores."""
    values = np.array([*normal, *anomalous], dtype=float)
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = {
        kind: np.histogram(scores, edges)[0] / len(scores)
        for kind, scores in (("normal", normal), ("anomalous", anomalous))
        if len(scores)
    }
    top = max(float(share.max()) for share in shares.values())
    x, y = _axes(("image score", low, high), ("share of images", 0.0, top * 1.05))
    width = round(x.length / _BINS, 1)
    bars = [
        Bar(x.coordinate(edge), round(y.length - y.coordinate(height), 1), width, y.coordinate(height), kind)
        for kind, share in shares.items()
        for edge, height in zip(edges, share, strict=False)
        if height > 0
    ]
    words = [
        f"{len(scores)} {name} from {min(scores):.3g} to {max(scores):.3g}, median {float(np.median(scores)):.3g}"
        for name, scores in (("good images", normal), ("defective images", anomalous))
        if len(scores)
    ]
    return Chart(title, f"Scores of {'; '.join(words)}.", x, y, bars=bars)
