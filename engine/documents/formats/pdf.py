"""PDF: the text of each page in reading order, gathered to paragraphs by its geometry.

A line belongs to the paragraph before it unless one of these holds (`_starts_block`): the
vertical gap is wide, the letters are of another height, the line is indented after a full stop,
or it is a list item. Lines taller than the page's usual ones by 15 % are headings. What stands on
every page is marked; tables drawn with rules keep their rows; scanned pages are recognized where
that is installed, and named where it is not (`pdf_scans`).
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium_c

from engine.documents.clean import clean, is_list_line, join_lines
from engine.documents.formats import PDF, Hints
from engine.documents.formats.dates import pdf_date
from engine.documents.formats.ocr import INSTALL, ocr_available, pages_within
from engine.documents.formats.pdf_layout import in_reading_order, mark_boilerplate
from engine.documents.formats.pdf_lines import Line, PageLines, page_lines, seen
from engine.documents.formats.pdf_scans import is_scan, left_out, scanned
from engine.documents.formats.pdf_tables import Table, page_tables
from engine.documents.parsed import Box, Draft, Parsed, assemble
from engine.errors import DocumentUnreadable, ParserLimitExceeded

PAGES_MAX = 5_000

_GAP_HEIGHTS = 0.6
"""A gap of more than this share of a line's height parts paragraphs (leading is 0.0 to 0.5)."""

_TALLER = 1.15
_HEADING_CHARS_MAX = 160
_UNTITLED = frozenset(("untitled", "untitled document"))


@dataclass(frozen=True, slots=True)
class _Page:
    """What is found on a page; `scanned` is what was recognized on it. `unread`: a scan that was
    not."""

    lines: PageLines
    tables: tuple[Table, ...]
    scanned: tuple[Draft, ...]
    frame: Box
    rotation: int
    unread: bool = False


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a PDF; the title is the one in its metadata, or else a heading.

    Raises DocumentUnreadable for a file that is encrypted, broken, or holds neither text nor
    pictures that can be read as text, and ParserLimitExceeded for more than PAGES_MAX pages.
    """
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise _unopened(error, len(data)) from error
    with contextlib.closing(document):
        page_count = len(document)
        if page_count > PAGES_MAX:
            raise ParserLimitExceeded(
                f"the PDF has {page_count} pages, more than {PAGES_MAX}; split it",
                metadata={"page_count": page_count, "bound": PAGES_MAX},
            )
        pages = list(_pages(document, page_count, pages_within(hints.cpu_s)))
        about = {
            name: clean(str(document.get_metadata_value(name)))
            for name in ("Title", "Author", "CreationDate", "ModDate")
        }
    if not any(page.lines.lines or page.scanned for page in pages):
        raise _no_text(page_count, pages_within(hints.cpu_s))
    title = about["Title"]
    return assemble(
        "" if title.lower() in _UNTITLED else title,
        PDF,
        _all_drafts(pages),
        page_count=page_count,
        author=about["Author"],
        created=pdf_date(about["CreationDate"]),
        modified=pdf_date(about["ModDate"]),
    )


def _unopened(error: pypdfium2.PdfiumError, size_bytes: int) -> DocumentUnreadable:
    code = getattr(error, "err_code", None)
    if code in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
        reason = "the PDF is encrypted and opens only with a password; send it decrypted"
    else:
        reason = (
            f"the PDF is broken: no reader can open its {size_bytes} bytes; "
            "save it again in the program that made it"
        )
    return DocumentUnreadable(
        reason, metadata={"size_bytes": size_bytes, "pdfium_error": str(code)}
    )


def _no_text(page_count: int, scans_max: int) -> DocumentUnreadable:
    if ocr_available():
        return DocumentUnreadable(
            f"none of the PDF's {page_count} pages holds text, and none a scan that could be read "
            f"(the first {scans_max} were tried); send one with text",
            metadata={"page_count": page_count, "reason": "no_text"},
        )
    return DocumentUnreadable(
        f"none of the PDF's {page_count} pages has a text layer; it may be a scan, and this node "
        f"cannot recognize characters: {INSTALL}, or run character recognition on it first",
        metadata={"page_count": page_count, "reason": "ocr_missing"},
    )


def _pages(document: Any, page_count: int, scans_max: int) -> Iterator[_Page]:
    """All pages, so many scans among them read. One that PDFium cannot load counts as empty."""
    nothing = _Page(PageLines((), 0, 0.0, 0.0), (), (), (0.0, 0.0, 0.0, 0.0), 0)
    scans_left = scans_max if ocr_available() else 0
    for number in range(1, page_count + 1):
        try:
            page = document[number - 1]
        except pypdfium2.PdfiumError:
            yield nothing
            continue
        with contextlib.closing(page):
            found = _read(page)
            if is_scan(page, found.lines):
                if scans_left:
                    scans_left -= 1
                    read = scanned(page, number, found.rotation, found.lines)
                    found = replace(found, scanned=tuple(read))
                else:
                    found = replace(found, unread=True)
            yield found


def _read(page: Any) -> _Page:
    frame: Box = tuple(map(float, page.get_cropbox()))  # type: ignore[assignment]
    rotation = int(page.get_rotation())
    with contextlib.closing(page.get_textpage()) as textpage:
        lines = page_lines(page, textpage, rotation)
        if not rotation or not lines.lines or lines.turns:
            # Of turned text the rules would have to be turned too; it is rare, and keeps its lines.
            tables = page_tables(page, textpage) if lines.lines and not lines.turns else []
            return _Page(lines, tuple(tables), (), frame, rotation)
    # The text runs along the page as it was before it was turned: PDFium sorts it as shown.
    page.set_rotation(0)
    with contextlib.closing(page.get_textpage()) as textpage:
        lines = page_lines(page, textpage, rotation)
        return _Page(lines, tuple(page_tables(page, textpage)), (), frame, rotation)


def _all_drafts(pages: list[_Page]) -> Iterator[Draft]:
    heights = [line.height for page in pages for line in page.lines.lines for _ in line.text]
    body_height = statistics.median(heights) if heights else 1.0
    marked = mark_boilerplate([page.lines for page in pages])
    unread = [number for number, page in enumerate(pages, start=1) if page.unread]
    for number, (page, lines) in enumerate(zip(pages, marked, strict=True), start=1):
        yield from page.scanned
        if number in unread[:1]:
            yield left_out(unread)
        yield from _drafts(page, in_reading_order(lines), body_height, number)


def _drafts(page: _Page, lines: list[Line], body_height: float, number: int) -> Iterator[Draft]:
    """Paragraphs, and each table where its first line stood."""
    block: list[Line] = []
    told: set[int] = set()
    for line in lines:
        inside = _table_of(page, line)
        if block and (inside is not None or _starts_block(block, line)):
            yield _draft(block, body_height, number)
            block = []
        if inside is None:
            block.append(line)
        elif inside not in told:
            told.add(inside)
            table = page.tables[inside]
            box = seen(table.box, page.frame, page.rotation)
            yield Draft("table", table.text, page=number, box=box)
    if block:
        yield _draft(block, body_height, number)


def _table_of(page: _Page, line: Line) -> int | None:
    """The table that the line is in, by its middle."""
    across, up = (line.left + line.right) / 2, (line.top + line.bottom) / 2
    for index, table in enumerate(page.tables):
        left, bottom, right, top = table.box
        if left <= across <= right and bottom <= up <= top:
            return index
    return None


def _starts_block(block: list[Line], line: Line) -> bool:
    previous = block[-1]
    if previous.boilerplate != line.boilerplate:
        return True
    overlap = min(previous.bottom + previous.height, line.top) - max(
        previous.bottom, line.top - line.height
    )
    if overlap > 0.5 * min(previous.height, line.height):
        return False  # the same printed line: a superscript, a tab, a cell of a table
    if max(line.height, previous.height) > _TALLER * min(line.height, previous.height):
        return True
    if is_list_line(line.text):
        return True
    ended = previous.text.rstrip().endswith((".", "!", "?", ":"))
    if line.top > previous.bottom + previous.height:  # the next column
        return ended
    if previous.bottom - line.top > _GAP_HEIGHTS * line.height:
        return True
    return ended and line.left > block[0].left + 0.8 * line.height and len(block) > 1


def _draft(block: list[Line], body_height: float, page: int) -> Draft:
    text = join_lines([line.text for line in block])
    height = statistics.median(line.height for line in block)
    box: Box = (
        min(line.box[0] for line in block),
        min(line.box[1] for line in block),
        max(line.box[2] for line in block),
        max(line.box[3] for line in block),
    )
    if block[0].boilerplate:
        return Draft("paragraph", text, page=page, role="boilerplate", box=box)
    if height > _TALLER * body_height and len(text) <= _HEADING_CHARS_MAX:
        level = 1 if height > 1.6 * body_height else 2
        return Draft("heading", text, level=level, page=page, box=box)
    if is_list_line(block[0].text):
        return Draft("list_item", text, page=page, box=box)
    return Draft("paragraph", text, page=page, box=box)
