"""Presentations: a slide is a page; its title a heading; shapes in reading order; notes last."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from engine.documents.clean import clean
from engine.documents.formats import PPTX, Hints
from engine.documents.formats.container import broken, open_zip
from engine.documents.formats.dates import iso
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Box, Draft, Parsed, Role, assemble

_WHAT = "presentation"
_EMU_PER_POINT = 12_700
_GROUP_DEPTH_MAX = 20
_UNTITLED = "PowerPoint Presentation"
"""What a package without properties, or one that nobody named, says of itself."""
_BOILERPLATE = frozenset(("DATE", "FOOTER", "SLIDE_NUMBER", "HEADER"))


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a .pptx; boxes are in points from the slide's lower left corner."""
    open_zip(data, _WHAT).close()
    import pptx

    try:
        deck = pptx.Presentation(io.BytesIO(data))
        height = float(deck.slide_height or 0)
        slides = list(deck.slides)
        drafts = [
            draft
            for number, slide in enumerate(slides, start=1)
            for draft in _slide(slide, number, height)
        ]
        about = deck.core_properties
    except Exception as error:  # python-pptx raises what lxml, zipfile and dict lookups raise
        raise broken(_WHAT, len(data)) from error
    return assemble(
        "" if about.title == _UNTITLED else clean(about.title or ""),
        PPTX,
        drafts,
        page_count=len(slides),
        author=clean(about.author or ""),
        created=iso(about.created),
        modified=iso(about.modified),
        language=about.language or "",
    )


def _slide(slide: Any, number: int, height: float) -> Iterator[Draft]:
    title = slide.shapes.title
    title_id = None if title is None else title.shape_id
    if title is not None and title.has_text_frame:
        text = clean(title.text_frame.text.replace("\v", "\n")).replace("\n", " ")
        yield Draft("heading", text, level=1, page=number, box=_box(title, height))
    for shape in sorted(_flat(slide.shapes, 0), key=_place):
        if shape.shape_id != title_id:
            yield from _shape(shape, number, height)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield from _paragraphs(slide.notes_slide.notes_text_frame, number, None, "body")


def _flat(shapes: Any, depth: int) -> Iterator[Any]:
    """Shapes and those in groups, which have no text of their own."""
    for shape in shapes:
        inner = getattr(shape, "shapes", None)
        if inner is None:
            yield shape
        elif depth < _GROUP_DEPTH_MAX:
            yield from _flat(inner, depth + 1)


def _place(shape: Any) -> tuple[int, int]:
    """Top first, then left; the top in half inches, so that a row of boxes is a row."""
    return (int(shape.top or 0) // 457_200, int(shape.left or 0))


def _shape(shape: Any, number: int, height: float) -> Iterator[Draft]:
    box = _box(shape, height)
    if getattr(shape, "has_table", False):
        rows = ([cell.text for cell in row.cells] for row in shape.table.rows)
        yield Draft("table", table_text(rows), page=number, box=box)
    elif shape.has_text_frame:
        role: Role = "boilerplate" if _is_boilerplate(shape) else "body"
        yield from _paragraphs(shape.text_frame, number, box, role)


def _is_boilerplate(shape: Any) -> bool:
    return shape.is_placeholder and shape.placeholder_format.type.name in _BOILERPLATE


def _paragraphs(frame: Any, number: int, box: Box | None, role: Role) -> Iterator[Draft]:
    texts = [clean(paragraph.text.replace("\v", "\n")) for paragraph in frame.paragraphs]
    several = sum(map(bool, texts)) > 1
    for paragraph, text in zip(frame.paragraphs, texts, strict=True):
        item = several and (paragraph.level > 0 or _has_bullet(paragraph))
        yield Draft("list_item" if item else "paragraph", text, page=number, role=role, box=box)


def _has_bullet(paragraph: Any) -> bool:
    properties = paragraph._p.pPr
    if properties is None:
        return False
    names = [str(child.tag).rpartition("}")[2] for child in properties]
    return "buChar" in names or "buAutoNum" in names


def _box(shape: Any, height: float) -> Box | None:
    edges = (shape.left, shape.top, shape.width, shape.height)
    if any(edge is None for edge in edges):
        return None
    left, top, width, tall = (float(edge) / _EMU_PER_POINT for edge in edges)
    page = height / _EMU_PER_POINT
    return left, page - top - tall, left + width, page - top
