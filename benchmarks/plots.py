"""Which plots a report has, and what stands on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.report import Curve, Kind, Report
from benchmarks.svg import Bars, Chart, Line, Point, draw, draw_bars

NDCG = "nDCG@10"

_CHARTS: dict[Kind, tuple[str, str, str]] = {
    "recall": ("Recall against throughput", "recall@10", "queries/s"),
    "load": ("Latency against load", "requests/s", "ms"),
    "growth": ("Growth with size", "size", "as named"),
}


def plots(report: Report) -> dict[str, str]:
    """SVG by name, of what the report measured: `recall`, `load`, `growth`, `quality`."""
    curves = [curve for suite in report.suites for curve in suite.curves]
    found: dict[str, str] = {}
    for kind, (title, x_label, y_label) in _CHARTS.items():
        chosen = [one for one in curves if one.kind == kind]
        lines = [Line(_named(one), one.points) for one in chosen]
        log = kind == "growth"
        chart = Chart(title, x_label, y_label, lines, x_log=log, y_log=log or kind == "load")
        if any(_positive(one.points) if log else one.points for one in chosen):
            found[kind] = draw(chart)
    bars = quality_bars(report)
    if bars is not None:
        found["quality"] = draw_bars(bars)
    return found


def quality_bars(report: Report) -> Bars | None:
    """nDCG@10 by data set and way to search, of figures named `data set: way, nDCG@10`."""
    values: dict[str, dict[str, float]] = {}
    for suite in report.suites:
        for figure in suite.figures:
            what, comma, measure = figure.name.rpartition(", ")
            group, colon, way = what.partition(": ")
            if comma and colon and measure == NDCG and math.isfinite(figure.value):
                values.setdefault(group, {})[way] = figure.value
    if not values:
        return None
    ways = list(dict.fromkeys(way for of in values.values() for way in of))
    series = [(way, [of.get(way) for of in values.values()]) for way in ways]
    return Bars("Ranking quality", NDCG, list(values), series)


def exponent(points: Sequence[Point]) -> float:
    """The e of y = c * x^e that fits best, by least squares of the logarithms; NaN of fewer than
    two sizes."""
    kept = _positive(points)
    if len({x for x, _ in kept}) < 2:
        return math.nan
    slope, _ = np.polyfit(np.log([x for x, _ in kept]), np.log([y for _, y in kept]), 1)
    return float(slope)


def _named(curve: Curve) -> str:
    if curve.kind != "growth":
        return curve.name
    grows = exponent(curve.points)
    told = "one size" if math.isnan(grows) else f"grows as size^{grows:.2f}"
    return f"{curve.name}, {curve.unit}: {told}"


def _positive(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if 0 < x < math.inf and 0 < y < math.inf]
