"""Which line of a PDF is read after which, and which stand on every page. Pure.

The order of the file is the order of reading in most files, columns included, because programs
write a column after the other. It is given up only where it goes back up the page more often than
the order of the places does, or jumps the gutter between columns of prose line by line: then
white space cuts the page into columns and bands.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Sequence

from engine.documents.formats.pdf_lines import Line, PageLines, as_boilerplate

_CUTS_MAX = 24
_COLUMN_LINES_MIN = 3
_GUTTER_HEIGHTS = 0.8
"""A column ends where nothing is printed for so many line heights to the right."""

_BETTER_BY = 2
"""How many fewer ways back up make the order of places the better one."""

_ACROSS_MIN = 4
_PROSE_CHARS_MIN = 20
_PROSE_FILL_MIN = 0.7

_EDGE_LINES = 4
_EDGE_SHARE = 0.14
"""Headers and footers are among so many lines of an edge, within this share of the page."""

_PAGES_MIN = 3
_PAGES_SHARE = 0.3
"""A third of the pages: left and right pages have headers of their own."""

_DIGITS = re.compile(r"\d+|\b[ivxlc]{1,6}\b", re.IGNORECASE)


def in_reading_order(lines: Sequence[Line]) -> list[Line]:
    """The lines as a reader takes them."""
    if len(lines) < 2 * _COLUMN_LINES_MIN:
        return list(lines)
    back, jumps = ways_back(lines), _jumps_columns(lines)
    if back <= _BETTER_BY and not jumps:
        return list(lines)
    placed = _by_place(list(lines), _CUTS_MAX)
    return placed if jumps or back > ways_back(placed) + _BETTER_BY else list(lines)


def _jumps_columns(lines: Sequence[Line]) -> bool:
    """Whether the lines go across columns of prose: their pieces are long on both sides, and
    about as wide as each other. Cells of a table are neither."""
    across = [
        (before, after)
        for before, after in itertools.pairwise(lines)
        if after.left > before.right
        and min(before.top, after.top) > max(before.bottom, after.bottom)
    ]
    if len(across) < _ACROSS_MIN:
        return False
    sides = ([before for before, _ in across], [after for _, after in across])
    return all(
        statistics.median(len(line.text) for line in side) >= _PROSE_CHARS_MIN
        and statistics.median(line.right - line.left for line in side)
        >= _PROSE_FILL_MIN * max(line.right - line.left for line in side)
        for side in sides
    )


def ways_back(lines: Sequence[Line]) -> int:
    """How often a line stands above the one before it."""
    return sum(
        after.bottom > before.top
        for before, after in itertools.pairwise(lines)
        if not (after.boilerplate or before.boilerplate)
    )


def _by_place(lines: list[Line], cuts: int) -> list[Line]:
    """Columns from left to right, bands from top to bottom, whatever the white space shows."""
    if len(lines) <= 1 or cuts == 0:
        return sorted(lines, key=lambda line: (-line.top, line.left))
    gutter = _gutter(lines)
    if gutter is not None:
        left = [line for line in lines if line.right <= gutter]
        right = [line for line in lines if line.right > gutter]
        return _by_place(left, cuts - 1) + _by_place(right, cuts - 1)
    band = _band(lines)
    if band is None:
        return sorted(lines, key=lambda line: (-line.top, line.left))
    above = [line for line in lines if line.bottom >= band]
    below = [line for line in lines if line.bottom < band]
    return _by_place(above, cuts - 1) + _by_place(below, cuts - 1)


def _gutter(lines: list[Line]) -> float | None:
    """Where a white column parts the lines, with enough of them on both sides."""
    height = sorted(line.height for line in lines)[len(lines) // 2]
    found: float | None = None
    widest = _GUTTER_HEIGHTS * height
    edges = sorted((line.left, line.right) for line in lines)
    reach, count = edges[0][1], 1
    for left, right in edges[1:]:
        sides = min(count, len(lines) - count)
        if left - reach > widest and sides >= _COLUMN_LINES_MIN:
            widest, found = left - reach, (left + reach) / 2
        reach = max(reach, right)
        count += 1
    return found


def _band(lines: list[Line]) -> float | None:
    """The height of the widest white band; the first of them from the top where all are alike."""
    edges = sorted(((line.bottom, line.top) for line in lines), key=lambda edge: -edge[1])
    found: float | None = None
    widest = 0.0
    reach = edges[0][0]
    for bottom, top in edges[1:]:
        if reach - top > widest + 0.5:
            widest, found = reach - top, (reach + top) / 2
        reach = min(reach, bottom)
    return found


def mark_boilerplate(pages: Sequence[PageLines]) -> list[list[Line]]:
    """The lines of each page; those at its edges whose text (numbers aside) stands at the same
    height of many pages are marked."""
    counts: Counter[tuple[str, int]] = Counter()
    for page in pages:
        for key in {_key(line) for line in _edge_lines(page)}:
            counts[key] += 1
    bound = max(_PAGES_MIN, _PAGES_SHARE * len(pages))
    marked = []
    for page in pages:
        edge = {id(line) for line in _edge_lines(page)}
        marked.append(
            [
                as_boilerplate(line) if id(line) in edge and _often(line, counts, bound) else line
                for line in page.lines
            ]
        )
    return marked


def _often(line: Line, counts: Counter[tuple[str, int]], bound: float) -> bool:
    """A height that falls between two steps counts with either neighbor."""
    text, step = _key(line)
    return sum(counts[(text, near)] for near in (step - 1, step, step + 1)) >= bound


def _key(line: Line) -> tuple[str, int]:
    return _DIGITS.sub("#", " ".join(line.text.split())), round(line.top / 6)


def _edge_lines(page: PageLines) -> list[Line]:
    zone = _EDGE_SHARE * (page.top - page.bottom)
    ordered = sorted(page.lines, key=lambda line: -line.top)
    above = [line for line in ordered[:_EDGE_LINES] if line.top > page.top - zone]
    below = [line for line in ordered[-_EDGE_LINES:] if line.bottom < page.bottom + zone]
    return above + below
