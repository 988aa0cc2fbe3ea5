"""Text as a picture: drawn on a page of A4, and pages of pictures as a PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pypdfium2
from PIL import Image, ImageDraw, ImageFont

DPI = 150
POINTS = 12
MARGIN = 72
"""In points, as POINTS; lines stand 1.3 and paragraphs 2.6 letters apart."""

PAGE = (595, 842)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def drawn(paragraphs: Sequence[str], *, dpi: int = DPI) -> Image.Image:
    """A page of paragraphs, black on white, in the typeface that Pillow brings."""
    scale = dpi / 72
    picture = Image.new("L", (round(PAGE[0] * scale), round(PAGE[1] * scale)), 255)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=POINTS * scale)
    top = float(MARGIN)
    for paragraph in paragraphs:
        for line in _lines(pen, font, paragraph, (PAGE[0] - 2 * MARGIN) * scale):
            pen.text((MARGIN * scale, top * scale), line, fill=0, font=font)
            top += 1.3 * POINTS
        top += 1.3 * POINTS
    assert top < PAGE[1] - MARGIN, "more than a page"
    return picture


def _lines(pen: ImageDraw.ImageDraw, font: _Font, text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def saved(pictures: Sequence[Image.Image], kind: str, *, dpi: int = DPI) -> bytes:
    """The pictures as one file of a kind that Pillow writes, such as "PNG"; PDF and TIFF hold
    several."""
    out = io.BytesIO()
    first, *others = [picture.copy() for picture in pictures]  # Pillow notes its settings in them
    more = {"save_all": True, "append_images": others} if others else {}
    said = {"resolution": dpi} if kind == "PDF" else {"dpi": (dpi, dpi)}
    first.save(out, kind, **said, **more)
    return out.getvalue()


def joined(*documents: bytes) -> bytes:
    """The pages of all PDFs in one."""
    made = pypdfium2.PdfDocument.new()
    for data in documents:
        made.import_pages(pypdfium2.PdfDocument(data))
    return _bytes_of(made)


def stamped(data: bytes, stamp: bytes) -> bytes:
    """A PDF with the first page of another laid over its own, as archives stamp what they scan."""
    document = pypdfium2.PdfDocument(data)
    over = pypdfium2.PdfDocument(stamp).page_as_xobject(0, document)
    page = document[0]
    page.insert_obj(over.as_pageobject())
    page.gen_content()
    return _bytes_of(document)


def shown_turned(data: bytes, degrees: int) -> bytes:
    """A PDF whose first page is shown turned with the clock."""
    document = pypdfium2.PdfDocument(data)
    document[0].set_rotation(degrees)
    return _bytes_of(document)


def _bytes_of(document: pypdfium2.PdfDocument) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()
