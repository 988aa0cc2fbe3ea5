"""PDF: text per page in the order of the file, lines gathered to paragraphs by their geometry.

PDFium gives characters with boxes and puts a line break where the next character starts a new
line. A line belongs to the paragraph before it unless one of these holds (`_starts_block`): the
vertical gap is wide, the letters are of another height, the line is indented after a full stop,
or it is a list item. Lines taller than the page's usual ones by 15 % are headings.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium_c

from engine.documents.clean import clean, is_list_line, join_lines
from engine.documents.formats import PDF, Hints
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable, ParserLimitExceeded

PAGES_MAX = 5_000

_GAP_HEIGHTS = 0.6
"""A gap of more than this share of a line's height parts paragraphs (leading is 0.0 to 0.5)."""

_TALLER = 1.15
_HEADING_CHARS_MAX = 160
_CHARS_PER_PAGE_MAX = 200_000


@dataclass(frozen=True, slots=True)
class _Line:
    """Text between two line breaks of PDFium, in points from the page's lower left corner.

    It may run over two printed lines, where PDFium joins a hyphenated word: `top` is that of its
    first letter, `bottom` that of its last.
    """

    text: str
    left: float
    top: float
    bottom: float
    height: float


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read the text layer of a PDF; the title is the one in its metadata, or else a heading.

    Raises DocumentUnreadable for a file that is encrypted, broken, or without any text (scans),
    and ParserLimitExceeded for more than PAGES_MAX pages.
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
        pages = [_lines(document, number) for number in range(page_count)]
        title = clean(str(document.get_metadata_value("Title")))
    if not any(pages):
        raise DocumentUnreadable(
            f"none of the PDF's {page_count} pages has a text layer; it may be a scan: run "
            "character recognition on it first",
            metadata={"page_count": page_count},
        )
    heights = [line.height for page in pages for line in page for _ in range(len(line.text))]
    body_height = statistics.median(heights)
    drafts = (
        draft
        for number, page in enumerate(pages, start=1)
        for draft in _drafts(page, body_height, number)
    )
    return assemble(title, PDF, drafts, page_count=page_count)


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


def _lines(document: Any, number: int) -> list[_Line]:
    """The lines of a page. A page that PDFium cannot load counts as empty."""
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        return []
    with contextlib.closing(page), contextlib.closing(page.get_textpage()) as textpage:
        count = min(textpage.count_chars(), _CHARS_PER_PAGE_MAX)
        raw = textpage.get_text_range(0, count) if count else ""
        lines = []
        at = 0
        for text in raw.split("\r\n"):
            indent = len(text) - len(text.lstrip())
            if text.strip():
                lines.append(_measured(textpage, text, at + indent))
            at += len(text.encode("utf-16-le")) // 2 + 2
        return lines


def _measured(textpage: Any, text: str, text_index: int) -> _Line:
    """Left edge from the first letter; height from the middle one of five, since a line may
    hold words in another font."""
    seen = [offset for offset, char in enumerate(text.strip()) if not char.isspace()]
    boxes = []
    for offset in (seen[(len(seen) - 1) * quarter // 4] for quarter in range(5)):
        index = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, text_index + offset)
        try:
            boxes.append(textpage.get_charbox(max(index, 0), loose=True))
        except pypdfium2.PdfiumError:
            boxes.append((0.0, 0.0, 0.0, 0.0))
    height = sorted(float(box[3] - box[1]) for box in boxes)[2]
    first, last = boxes[0], boxes[-1]
    return _Line(text, float(first[0]), float(first[3]), float(last[1]), max(height, 0.1))


def _drafts(lines: list[_Line], body_height: float, page: int) -> Iterator[Draft]:
    block: list[_Line] = []
    for line in lines:
        if block and _starts_block(block, line):
            yield _draft(block, body_height, page)
            block = []
        block.append(line)
    if block:
        yield _draft(block, body_height, page)


def _starts_block(block: list[_Line], line: _Line) -> bool:
    previous = block[-1]
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


def _draft(block: list[_Line], body_height: float, page: int) -> Draft:
    text = join_lines([line.text for line in block])
    height = statistics.median(line.height for line in block)
    if height > _TALLER * body_height and len(text) <= _HEADING_CHARS_MAX:
        level = 1 if height > 1.6 * body_height else 2
        return Draft("heading", text, level=level, page=page)
    if is_list_line(block[0].text):
        return Draft("list_item", text, page=page)
    return Draft("paragraph", text, page=page)
