"""Word documents: body in reading order with headings, lists, tables, boxes, notes.

python-docx opens the package and knows the styles; the body is walked here, because its own
iteration leaves out content controls, text boxes and tracked insertions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from engine.documents.clean import clean, is_list_line
from engine.documents.formats import DOCX, Hints
from engine.documents.formats.container import broken, children, local_name, open_zip
from engine.documents.formats.dates import iso
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, Role, assemble

_WHAT = "Word document"
_HEADING = re.compile(r"(?:heading|überschrift|titre|título|titolo)\s*([1-9])", re.IGNORECASE)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SKIPPED = frozenset(("del", "moveFrom", "instrText", "delText", "fldData", "Fallback", "rPr"))
_NESTED = frozenset(("txbxContent",))
_WALKED = frozenset(
    ("body", "sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "txbxContent")
)
_TABLE_DEPTH_MAX = 20
_UNTITLED = "Word Document"
"""What python-docx says of a package without properties."""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a .docx; headers and footers come last, as boilerplate, each text once."""
    open_zip(data, _WHAT).close()
    import docx

    try:
        document = docx.Document(io.BytesIO(data))
        body = document.element.body
    except Exception as error:  # python-docx raises what lxml, zipfile and dict lookups raise
        raise broken(_WHAT, len(data)) from error
    if body is None:
        raise broken(_WHAT, len(data))
    headings = _heading_levels(document)
    drafts = [*_blocks(body, headings, 0), *_margins(document)]
    about = document.core_properties
    return assemble(
        "" if about.title == _UNTITLED else clean(about.title or ""),
        DOCX,
        drafts,
        author=clean(about.author or ""),
        created=iso(about.created),
        modified=iso(about.modified),
        language=about.language or "",
    )


def _heading_levels(document: Any) -> dict[str, int]:
    """Style ids that are headings, and their level; a style may take it from its base."""
    levels: dict[str, int] = {}
    for style in document.styles.element.iter(f"{_W}style"):
        name = style.find(f"{_W}name")
        named = "" if name is None else str(name.get(f"{_W}val") or "")
        outline = style.find(f"{_W}pPr/{_W}outlineLvl")
        found = _HEADING.match(named)
        style_id = str(style.get(f"{_W}styleId") or "")
        if found:
            levels[style_id] = min(int(found.group(1)), 6)
        elif named.lower() == "title":
            levels[style_id] = 1
        elif outline is not None and str(outline.get(f"{_W}val") or "9") < "9":
            levels[style_id] = min(int(outline.get(f"{_W}val")) + 1, 6)
    return levels


def _blocks(parent: Any, headings: dict[str, int], depth: int) -> Iterator[Draft]:
    for node in children(parent):
        name = local_name(node)
        if name == "p":
            yield from _paragraph(node, headings, depth)
        elif name == "tbl":
            yield from _table(node, headings, depth)
        elif name in _WALKED:
            yield from _blocks(node, headings, depth)


def _paragraph(node: Any, headings: dict[str, int], depth: int) -> Iterator[Draft]:
    text, boxes = _text(node)
    cleaned = clean(text)
    properties = node.find(f"{_W}pPr")
    style = level = numbered = None
    if properties is not None:
        style = properties.find(f"{_W}pStyle")
        numbered = properties.find(f"{_W}numPr")
    style_id = "" if style is None else str(style.get(f"{_W}val") or "")
    level = headings.get(style_id, 0)
    if cleaned and level:
        yield Draft("heading", cleaned.replace("\n", " "), level=level)
    elif cleaned and (numbered is not None or "list" in style_id.lower() or is_list_line(cleaned)):
        yield Draft("list_item", cleaned)
    elif cleaned:
        yield Draft("paragraph", cleaned)
    if depth < _TABLE_DEPTH_MAX:
        for box in boxes:
            yield from _blocks(box, headings, depth + 1)


def _text(root: Any) -> tuple[str, list[Any]]:
    """What is read of a paragraph, and the text boxes anchored in it."""
    pieces: list[str] = []
    boxes: list[Any] = []
    stack = [root]
    while stack:
        node = stack.pop()
        name = local_name(node)
        if name in _SKIPPED:
            continue
        if name in _NESTED:
            boxes.append(node)
            continue
        if name == "t":
            pieces.append(node.text or "")
        elif name in ("tab", "ptab"):
            # Of a run; the one of paragraph properties is a tab stop and stands in `tabs`.
            pieces.append("\t")
        elif name in ("br", "cr"):
            pieces.append("\n")
        elif name == "noBreakHyphen":
            pieces.append("-")
        elif name != "pPr":
            stack.extend(reversed(list(node)))
    return "".join(pieces), boxes


def _table(node: Any, headings: dict[str, int], depth: int) -> Iterator[Draft]:
    """A table of one column is layout: what is in it is read as if it stood outside."""
    rows = [list(_cells(row)) for row in _rows(node)]
    if depth < _TABLE_DEPTH_MAX and max(map(len, rows), default=0) <= 1:
        for row in rows:
            for cell in row:
                yield from _blocks(cell, headings, depth + 1)
        return
    yield Draft("table", table_text([_cell_text(cell, depth) for cell in row] for row in rows))


def _rows(node: Any) -> Iterator[Any]:
    for child in children(node, "tr", "sdt", "sdtContent", "ins"):
        if local_name(child) == "tr":
            yield child
        else:
            yield from _rows(child)


def _cells(row: Any) -> Iterator[Any]:
    for child in children(row, "tc", "sdt", "sdtContent", "ins"):
        if local_name(child) == "tc":
            yield child
        else:
            yield from _cells(child)


def _cell_text(cell: Any, depth: int) -> str:
    if depth >= _TABLE_DEPTH_MAX:
        return ""
    return " ".join(
        draft.text.replace("\n", " ").strip("| ") if draft.kind == "table" else draft.text
        for draft in _blocks(cell, {}, depth + 1)
    )


def _margins(document: Any) -> Iterator[Draft]:
    """Headers and footers, and the text of notes."""
    seen: set[str] = set()
    for relation in document.part.rels.values():
        kind = str(relation.reltype).rpartition("/")[2]
        if relation.is_external or kind not in ("header", "footer", "footnotes", "endnotes"):
            continue
        root = _root_of(relation.target_part)
        if root is None:
            continue
        notes = kind.endswith("notes")
        for part in children(root, "footnote", "endnote") if notes else [root]:
            for draft in _blocks(part, {}, 0):
                if draft.text not in seen:
                    seen.add(draft.text)
                    kind = "table" if draft.kind == "table" else "paragraph"
                    role: Role = "body" if notes else "boilerplate"
                    yield Draft(kind, draft.text, role=role)  # type: ignore[arg-type]


def _root_of(part: Any) -> Any:
    """The tree of a part: python-docx has parsed some, and left others as bytes."""
    element = getattr(part, "element", None)
    if element is not None:
        return element
    from engine.documents.formats.container import xml_tree

    return xml_tree(part.blob, _WHAT)
