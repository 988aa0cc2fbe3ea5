"""Plots as SVG, written by hand: lines with points, on plain or logarithmic axes, and bars.

A plot has no background of its own. Letters and the grid follow the reader's color scheme; the
colors of lines have a contrast of at least 3 to 1 with white and with a dark page (WCAG 2.2,
1.4.11), and a line is told from others by its marks as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLORS = ("#2f7ae5", "#d2691e", "#2e9e4f", "#9a66e8", "#d94f70", "#7d8590")
PAPER, DARK = "#ffffff", "#0d1117"
WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 40, 56
_ROW = 18
_TICKS = 6

_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.grid { stroke: #d0d7de; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .grid { stroke: #3d444d } }
</style>"""

Point = tuple[float, float]
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its points, (x, y)."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same axes. Points that a logarithmic axis has no place for, and those that
    are not numbers, are left out."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar for each series in each group; None where there is no value. Bars begin at 0."""

    title: str
    y_label: str
    groups: Sequence[str]
    series: Sequence[tuple[str, Sequence[float | None]]]


def draw(chart: Chart) -> str:
    """The chart as an SVG document. Raises ValueError where no point is left to draw."""
    lines = [Line(one.name, _drawable(chart, one.points)) for one in chart.lines]
    lines = [one for one in lines if one.points]
    if not lines:
        raise ValueError(f"the plot {chart.title!r} has no point")
    points = [point for one in lines for point in one.points]
    x_ticks = _axis([x for x, _ in points], log=chart.x_log, from_zero=False)
    y_ticks = _axis([y for _, y in points], log=chart.y_log, from_zero=not chart.y_log)
    height = HEIGHT + _ROW * len(lines)
    x_at = _placed(x_ticks, _LEFT, WIDTH - _RIGHT, log=chart.x_log)
    y_at = _placed(y_ticks, HEIGHT - _BOTTOM, _TOP, log=chart.y_log)
    parts = _frame(chart.title, chart.y_label, y_ticks, y_at, height)
    for tick in x_ticks:
        x, top, end = x_at(tick), _TOP, HEIGHT - _BOTTOM
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{end}"/>')
        parts.append(_text(x, end + 18, _short(tick), "middle"))
    parts.append(_text((_LEFT + WIDTH) / 2, HEIGHT - 16, chart.x_label, "middle"))
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        placed = [(x_at(x), y_at(y)) for x, y in sorted(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [_mark(number, x, y, color) for x, y in placed]
        parts += _legend(number, line.name, color)
    return _document(chart.title, parts, height)


def draw_bars(bars: Bars) -> str:
    """The bars as an SVG document. Raises ValueError where there is no value to draw."""
    values = [v for _, of in bars.series for v in of if v is not None and math.isfinite(v)]
    if not values:
        raise ValueError(f"the plot {bars.title!r} has no bar")
    ticks = _axis(values, log=False, from_zero=True)
    y_at = _placed(ticks, HEIGHT - _BOTTOM, _TOP, log=False)
    height = HEIGHT + _ROW * len(bars.series)
    parts = _frame(bars.title, bars.y_label, ticks, y_at, height)
    room = (WIDTH - _LEFT - _RIGHT) / len(bars.groups)
    width = room * 0.8 / len(bars.series)
    for at, group in enumerate(bars.groups):
        parts.append(_text(_LEFT + room * (at + 0.5), HEIGHT - _BOTTOM + 18, group, "middle"))
        for number, (_, of) in enumerate(bars.series):
            value = of[at]
            if value is None or not math.isfinite(value):
                continue
            x = _LEFT + room * (at + 0.1) + width * number
            y, zero = y_at(value), y_at(0.0)
            parts.append(
                f'<rect x="{x:.1f}" y="{min(y, zero):.1f}" width="{width - 2:.1f}" '
                f'height="{abs(zero - y):.1f}" fill="{COLORS[number % len(COLORS)]}"/>'
            )
    for number, (name, _) in enumerate(bars.series):
        parts += _legend(number, name, COLORS[number % len(COLORS)])
    return _document(bars.title, parts, height)


def _drawable(chart: Chart, points: Sequence[Point]) -> list[Point]:
    return [
        (x, y)
        for x, y in points
        if math.isfinite(x)
        and math.isfinite(y)
        and (x > 0 or not chart.x_log)
        and (y > 0 or not chart.y_log)
    ]


def _axis(values: Sequence[float], *, log: bool, from_zero: bool) -> list[float]:
    """Ticks that hold all values between the first and the last."""
    low, high = min(values), max(values)
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**n for n in range(first, max(last, first + 1) + 1)]
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    step = _step((high - low) or abs(high) or 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten."""
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(one * power for one in (1, 2, 5, 10) if one * power >= rough * (1 - 1e-9))


def _placed(ticks: Sequence[float], begin: float, end: float, *, log: bool) -> Place:
    def scaled(value: float) -> float:
        return math.log10(value) if log else value

    low, high = scaled(ticks[0]), scaled(ticks[-1])
    return lambda value: begin + (scaled(value) - low) / (high - low) * (end - begin)


def _frame(title: str, y_label: str, ticks: Sequence[float], y_at: Place, height: int) -> list[str]:
    parts = [f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>']
    for tick in ticks:
        y = y_at(tick)
        ends = f'x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line class="grid" {ends}/>')
        parts.append(_text(_LEFT - 8, y + 4, _short(tick), "end"))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    turned = f'transform="rotate(-90 16 {middle:.0f})"'
    parts.append(
        f'<text x="16" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(y_label)}</text>'
    )
    return parts


def _legend(number: int, name: str, color: str) -> list[str]:
    y = HEIGHT + _ROW * number
    return [_mark(number, _LEFT + 6, y, color), _text(_LEFT + 20, y + 4, name, "start")]


def _mark(number: int, x: float, y: float, color: str) -> str:
    """A circle, a square, a diamond, a triangle, and so on."""
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>',
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="{color}"/>',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{color}"/>',
    )
    return shapes[number % len(shapes)]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _document(title: str, parts: Sequence[str], height: int) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join((head, _STYLE, *parts, "</svg>")) + "\n"
