"""The printed lines of a PDF page, with their places.

PDFium gives characters with boxes and puts a line break where the next character starts a new
line. Boxes are turned twice: into the way the text runs, because layout is read in that, and into
the page as it is seen, because that is what a citation shows.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium_c

from engine.documents.parsed import Box

CHARS_PER_PAGE_MAX = 200_000

_GAP_HEIGHTS = 1.2
"""Words of justified lines stand up to one line height apart; gutters are wider."""

_MARK_CHARS_MAX = 4
"""Of a bullet or a number, which belongs to the text after it, however far."""

_RECTS_MAX = 200
_SAME_PLACE = 1.0
_NOWHERE: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Line:
    """Text between two line breaks of PDFium, in points, the way it is read.

    It may run over two printed lines, where PDFium joins a hyphenated word: `top` is that of its
    first letter, `bottom` that of its last. `box` is where it is seen on the page.
    """

    text: str
    left: float
    right: float
    top: float
    bottom: float
    height: float
    box: Box
    boilerplate: bool = False


@dataclass(frozen=True, slots=True)
class PageLines:
    """`turns` quarter turns against the clock bring the text of the page upright; `bottom` and
    `top` are the edges of the page in the same turn."""

    lines: tuple[Line, ...]
    turns: int
    bottom: float
    top: float


def turned(box: Box, turns: int) -> Box:
    """`box` after quarter turns against the clock around the origin."""
    left, bottom, right, top = box
    for _ in range(turns % 4):
        left, bottom, right, top = -top, left, -bottom, right
    return left, bottom, right, top


def seen(box: Box, page: Box, rotation: int) -> Box:
    """`box` on a page that is shown after `rotation` degrees with the clock, counted from the
    lower left corner of what is shown."""
    turns = (-rotation // 90) % 4
    edge = turned(page, turns)
    left, bottom, right, top = turned(box, turns)
    return left - edge[0], bottom - edge[1], right - edge[0], top - edge[1]


def page_lines(page: Any, textpage: Any, rotation: int) -> PageLines:
    """The lines of a page, which is shown after `rotation` degrees, in the order of the file."""
    bounds: Box = tuple(map(float, page.get_cropbox()))  # type: ignore[assignment]
    count = min(textpage.count_chars(), CHARS_PER_PAGE_MAX)
    raw = textpage.get_text_range(0, count) if count else ""
    measured: list[tuple[str, list[Box]]] = []
    at = 0
    for text in raw.split("\r\n"):
        for piece, start in _pieces(textpage, text, at):
            indent = len(piece) - len(piece.lstrip())
            if piece.strip():
                measured.append((piece, _letter_boxes(textpage, piece, start + indent)))
        at += len(text.encode("utf-16-le")) // 2 + 2
    turns = _turns([boxes for text, boxes in measured if len(text.strip()) >= 4])
    lines = tuple(_line(text, boxes, turns, bounds, rotation) for text, boxes in measured)
    shown = tuple(line for line in lines if _is_shown(line.box, seen(bounds, bounds, rotation)))
    _, bottom, _, top = turned(bounds, turns)
    return PageLines(shown or lines, turns, bottom, top)


def _is_shown(box: Box, page: Box) -> bool:
    """Whether any of it lies on the page: programs that cut a spread in two leave the other half
    in the file."""
    return box[2] > page[0] and box[0] < page[2] and box[3] > page[1] and box[1] < page[3]


def _pieces(textpage: Any, text: str, text_index: int) -> list[tuple[str, int]]:
    """A line of PDFium with where it starts, in two or more where it jumps a wide gap: across a
    gutter to the next column, or over an empty cell."""
    if len(text) < 3 or " " not in text.strip():
        return [(text, text_index)]
    first = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, text_index)
    count = textpage.count_rects(max(first, 0), len(text))
    if not 2 <= count <= _RECTS_MAX:
        return [(text, text_index)]
    rects = [textpage.get_rect(number) for number in range(count)]
    starts = [after[0] for before, after in itertools.pairwise(rects) if _is_gap(before, after)]
    pieces = []
    begin = 0
    for offset in (at + 1 for at, char in enumerate(text) if char == " ") if starts else ():
        index = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, text_index + offset)
        if not starts or index < 0 or offset >= len(text):
            break
        if abs(textpage.get_charbox(index)[0] - starts[0]) >= _SAME_PLACE:
            continue
        if len(text[begin:offset].strip()) > _MARK_CHARS_MAX:
            pieces.append((text[begin:offset], text_index + begin))
            begin = offset
        starts.pop(0)
    return [*pieces, (text[begin:], text_index + begin)]


def _is_gap(before: Box, after: Box) -> bool:
    """Whether two parts of a printed line stand far apart."""
    height = max(before[3] - before[1], after[3] - after[1])
    level = min(before[3], after[3]) - max(before[1], after[1])
    return level > 0 and after[0] - before[2] > _GAP_HEIGHTS * height


def _letter_boxes(textpage: Any, text: str, text_index: int) -> list[Box]:
    """Of five letters from the first to the last."""
    inked = [offset for offset, char in enumerate(text.strip()) if not char.isspace()]
    boxes: list[Box] = []
    for offset in (inked[(len(inked) - 1) * quarter // 4] for quarter in range(5)):
        index = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, text_index + offset)
        box = _NOWHERE
        with contextlib.suppress(pypdfium2.PdfiumError):
            left, bottom, right, top = textpage.get_charbox(max(index, 0), loose=True)
            box = (float(left), float(bottom), float(right), float(top))
        boxes.append(box)
    return boxes


def _turns(lines: list[list[Box]]) -> int:
    """Quarter turns that make most lines run to the right."""
    votes: Counter[int] = Counter()
    for boxes in lines:
        first, last = boxes[0], boxes[-1]
        across, up = last[0] - first[0], last[1] - first[1]
        if abs(across) >= abs(up):
            votes[0 if across >= 0 else 2] += 1
        else:
            votes[1 if up < 0 else 3] += 1
    # Lines that run to the left are right-to-left scripts more often than pages upside down.
    found = max(votes, key=lambda turns: votes[turns], default=0)
    return found if found in (1, 3) else 0


def _line(text: str, native: list[Box], turns: int, page: Box, rotation: int) -> Line:
    """Height from the middle letter of five, since a line may hold words in another font."""
    boxes = [turned(box, turns) for box in native]
    height = sorted(box[3] - box[1] for box in boxes)[2]
    whole = (
        min(box[0] for box in native),
        min(box[1] for box in native),
        max(box[2] for box in native),
        max(box[3] for box in native),
    )
    return Line(
        text,
        left=boxes[0][0],
        right=max(box[2] for box in boxes),
        top=boxes[0][3],
        bottom=boxes[-1][1],
        height=max(height, 0.1),
        box=seen(whole, page, rotation),
    )


def as_boilerplate(line: Line) -> Line:
    """The line, marked as one that stands on many pages."""
    return replace(line, boilerplate=True)
