"""Scanned pages of a PDF: which they are, what is on them, and what is said of those not read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pypdfium2.raw as pdfium_c

from engine.documents.formats.ocr import INSTALL, not_read, ocr_available, recognize
from engine.documents.formats.pdf_lines import Line, PageLines
from engine.documents.parsed import Box, Draft

_DPI = 200
_POINTS_MAX = 2_000.0
"""A page that is wider or taller is a plan: at this size it has 30 million pixels."""

_COVERED_MIN = 0.5
"""Of a page with a little text, by pictures: less are figures."""

_STAMP_CHARS_MAX = 200
"""A page with more text than a stamp and a page number needs no recognition."""


def is_scan(page: Any, lines: PageLines) -> bool:
    """Whether the page is a picture of text: without text, any picture on it may be one; with a
    little, pictures that cover it."""
    width, height = page.get_size()
    chars = sum(len(line.text) for line in lines.lines)
    if chars > _STAMP_CHARS_MAX or max(width, height) > _POINTS_MAX:
        return False
    pictures = page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3)
    if not chars:
        return next(iter(pictures), None) is not None
    return bool(sum(map(_area, pictures)) >= _COVERED_MIN * width * height)


def _area(picture: Any) -> float:
    left, bottom, right, top = picture.get_bounds()
    return float(abs(right - left) * abs(top - bottom))


def scanned(page: Any, number: int, rotation: int, lines: PageLines) -> list[Draft]:
    """What is recognized on a page as it is seen, but for what its `lines` say already."""
    page.set_rotation(rotation)
    bitmap = page.render(scale=_DPI / 72, grayscale=True)
    with contextlib.closing(bitmap):
        drafts = recognize(bitmap.to_pil().convert("L"), 72 / _DPI, number)
    return [draft for draft in drafts if not any(_within(draft.box, line) for line in lines.lines)]


def _within(box: Box | None, line: Line) -> bool:
    """Whether the middle of the box is in the line."""
    if box is None:
        return False
    across, up = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return line.box[0] <= across <= line.box[2] and line.box[1] <= up <= line.box[3]


def left_out(numbers: Sequence[int]) -> Draft:
    """What stands at the first of the scanned pages that were not read."""
    what = (
        f"page {numbers[0]}, a scan"
        if len(numbers) == 1
        else f"{len(numbers)} scanned pages, from page {numbers[0]} to page {numbers[-1]}"
    )
    why = (
        "more than can be recognized in a parser's time (RAGMESH_DOCUMENTS__PARSER_CPU_S)"
        if ocr_available()
        else f"because this node cannot recognize characters: {INSTALL}"
    )
    return not_read(f"{what}, {why}.", numbers[0])
