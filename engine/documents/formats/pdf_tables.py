"""Tables of a PDF page that are drawn with rules: a grid of lines, and the text in its cells.

`_grids` works on plain segments; PDFium gives those, and the text within a rectangle. Tables
without upright rules are left to the lines of text, which PDFium keeps in rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import byref, c_float
from dataclasses import dataclass
from typing import Any

import pypdfium2.raw as pdfium_c

from engine.documents.clean import clean
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Box

OBJECTS_MAX = 5_000
"""A page with more is a drawing: its lines are no rules of tables."""

_SEGMENTS_MAX = 4_000
_CELLS_MAX = 4_000
_THICK = 2.5
"""Points. A filled rectangle that is thinner is a rule."""

_SHORT = 6.0
_NEAR = 3.0
"""Points within which ends meet and rules are one."""

_FILLED_SHARE_MIN = 0.3


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line along an axis: at `at` from `start` to `end`, in points."""

    at: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Table:
    """The text of a table as `tables.table_text` writes it, and where it lies, unturned."""

    text: str
    box: Box


def page_tables(page: Any, textpage: Any) -> list[Table]:
    """The ruled tables of a page that hold text in two rows and two columns at least."""
    flat, upright = _rules(page)
    tables = []
    for xs, ys, sides in grids(flat, upright):
        rows = [
            [_text_in(textpage, cell) for cell in _row_cells(xs, top, bottom, sides)]
            for bottom, top in zip(ys[1:], ys, strict=False)
        ]
        filled = [sum(map(bool, row)) for row in rows]
        cells = sum(map(len, rows))
        if sum(count >= 2 for count in filled) >= 2 and sum(filled) >= _FILLED_SHARE_MIN * cells:
            tables.append(Table(table_text(rows), (xs[0], ys[-1], xs[-1], ys[0])))
    return tables


def grids(
    flat: Sequence[Rule], upright: Sequence[Rule]
) -> Iterator[tuple[list[float], list[float], list[Rule]]]:
    """Rules that meet, as grids of two columns and rows at least: the x of columns from the left,
    the y of rows from the top, and the upright rules. Pure."""
    groups = _meeting(flat, upright)
    for own_flat, own_upright in groups:
        xs = _distinct([rule.at for rule in own_upright])
        ys = _distinct([rule.at for rule in own_flat])[::-1]
        if len(xs) >= 3 and len(ys) >= 3 and (len(xs) - 1) * (len(ys) - 1) <= _CELLS_MAX:
            yield xs, ys, own_upright


def _meeting(flat: Sequence[Rule], upright: Sequence[Rule]) -> list[tuple[list[Rule], list[Rule]]]:
    """Groups of rules connected by crossings."""
    parent = list(range(len(flat) + len(upright)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, across in enumerate(flat):
        for j, up in enumerate(upright, start=len(flat)):
            if (
                across.start - _NEAR <= up.at <= across.end + _NEAR
                and up.start - _NEAR <= across.at <= up.end + _NEAR
            ):
                parent[root(i)] = root(j)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = {}
    for i, rule in enumerate([*flat, *upright]):
        groups.setdefault(root(i), ([], []))[0 if i < len(flat) else 1].append(rule)
    return list(groups.values())


def _distinct(values: list[float]) -> list[float]:
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > _NEAR:
            found.append(value)
    return found


def _row_cells(xs: list[float], top: float, bottom: float, sides: list[Rule]) -> Iterator[Box]:
    """The cells of a row: a cell goes on where no rule stands between it and the next."""
    middle = (top + bottom) / 2
    left = xs[0]
    for x in xs[1:]:
        closed = x == xs[-1] or any(
            abs(rule.at - x) <= _NEAR and rule.start - _NEAR <= middle <= rule.end + _NEAR
            for rule in sides
        )
        if closed:
            yield (left, bottom, x, top)
            left = x


def _text_in(textpage: Any, cell: Box) -> str:
    """Letters that reach over a rule belong to the cell that most of them is in."""
    left, bottom, right, top = cell
    margin = min(1.5, (top - bottom) / 4, (right - left) / 4)
    text = textpage.get_text_bounded(left + margin, bottom + margin, right - margin, top - margin)
    return clean(str(text)).replace("\n", " ")


def _rules(page: Any) -> tuple[list[Rule], list[Rule]]:
    """The level and the upright rules of a page, in its own coordinates."""
    flat: list[Rule] = []
    upright: list[Rule] = []
    if pdfium_c.FPDFPage_CountObjects(page) > OBJECTS_MAX:
        return [], []
    for drawn in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_PATH], max_depth=2):
        for x0, y0, x1, y1 in _strokes(drawn):
            if abs(y0 - y1) <= _THICK and abs(x0 - x1) >= _SHORT:
                flat.append(Rule((y0 + y1) / 2, min(x0, x1), max(x0, x1)))
            elif abs(x0 - x1) <= _THICK and abs(y0 - y1) >= _SHORT:
                upright.append(Rule((x0 + x1) / 2, min(y0, y1), max(y0, y1)))
        if len(flat) + len(upright) > _SEGMENTS_MAX:
            return [], []
    return flat, upright


def _strokes(drawn: Any) -> Iterator[Box]:
    """From point to point of a path, in page coordinates; the outline of a thin bar once."""
    left, bottom, right, top = drawn.get_bounds()
    if right - left <= _THICK or top - bottom <= _THICK:
        yield left, bottom, right, top
        return
    matrix = drawn.get_matrix()
    count = pdfium_c.FPDFPath_CountSegments(drawn)
    if not 2 <= count <= _SEGMENTS_MAX:
        return
    start = before = None
    for index in range(count):
        segment = pdfium_c.FPDFPath_GetPathSegment(drawn, index)
        x, y = c_float(), c_float()
        if not pdfium_c.FPDFPathSegment_GetPoint(segment, byref(x), byref(y)):
            return
        point = matrix.on_point(x.value, y.value)
        kind = pdfium_c.FPDFPathSegment_GetType(segment)
        if kind == pdfium_c.FPDF_SEGMENT_LINETO and before is not None:
            yield (*before, *point)
        elif kind == pdfium_c.FPDF_SEGMENT_MOVETO:
            start = point
        if pdfium_c.FPDFPathSegment_GetClose(segment) and start is not None:
            yield (*point, *start)
        before = point
