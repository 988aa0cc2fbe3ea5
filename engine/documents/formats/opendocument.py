"""OpenDocument texts and presentations (.odt, .odp)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.documents.clean import clean, is_list_line
from engine.documents.formats import ODP, ODT, Hints
from engine.documents.formats.container import (
    attribute,
    broken,
    children,
    local_name,
    open_zip,
    read_entry,
    read_xml,
)
from engine.documents.formats.dates import iso
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable

_WHAT = "OpenDocument file"
_DEPTH_MAX = 60
_REPEATED_MAX = 200
"""Of a cell or of spaces: a few bytes may ask for millions."""

_LEFT_OUT = frozenset(
    ("tracked-changes", "annotation", "annotation-end", "bookmark", "forms", "sequence-decls")
)
_INLINE_SKIPPED = frozenset(("annotation", "note-citation", "tracked-changes"))


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read the content in its order; a slide of a presentation is a page."""
    with open_zip(data, _WHAT) as archive:
        manifest = read_entry(archive, "META-INF/manifest.xml", _WHAT) or b""
        if b"encryption-data" in manifest:
            raise DocumentUnreadable(
                "the OpenDocument file is encrypted and opens only with a password; "
                "send it decrypted",
                metadata={"reason": "encrypted"},
            )
        content = read_xml(archive, "content.xml", _WHAT)
        meta = read_xml(archive, "meta.xml", _WHAT)
    body = None if content is None else next((n for n in content.iter() if _is(n, "body")), None)
    if body is None:
        raise broken(_WHAT, len(data))
    walk = _Walk()
    drafts = list(walk.blocks(body, 0, listed=False))
    about = {} if meta is None else {local_name(n): _plain(n) for n in meta.iter() if n.text}
    return assemble(
        clean(about.get("title", "")),
        ODP if walk.page else ODT,
        drafts,
        page_count=walk.page,
        author=clean(about.get("initial-creator", "") or about.get("creator", "")),
        created=iso(about.get("creation-date", "")),
        modified=iso(about.get("date", "")),
        language=about.get("language", ""),
    )


class _Walk:
    """The blocks of a body; `page` is the slide that is being read, 0 in a text."""

    def __init__(self) -> None:
        self.page = 0

    def blocks(self, parent: Any, depth: int, *, listed: bool) -> Iterator[Draft]:
        """The blocks below `parent`, in order; `listed` inside of a list."""
        if depth > _DEPTH_MAX:
            return
        for node in children(parent):
            name = local_name(node)
            if name == "h":
                level = attribute(node, "outline-level")
                number = int(level) if level.isdigit() else 1
                text = clean(_inline(node)).replace("\n", " ")
                yield Draft("heading", text, level=min(max(number, 1), 6), page=self.page)
            elif name == "p":
                text = clean(_inline(node))
                kind = "list_item" if listed or is_list_line(text) else "paragraph"
                yield Draft(kind, text, page=self.page)  # type: ignore[arg-type]
                for frame in _frames(node):
                    yield from self.blocks(frame, depth + 1, listed=listed)
            elif name == "table":
                rows = [[_plain(cell) for cell in _cells(row)] for row in _rows(node)]
                yield Draft("table", table_text(rows), page=self.page)
            elif name == "page":
                self.page += 1
                yield from self.blocks(node, depth + 1, listed=False)
            elif name not in _LEFT_OUT:
                inner = listed or name == "list"
                yield from self.blocks(node, depth + 1, listed=inner)


def _is(node: Any, name: str) -> bool:
    return local_name(node) == name


def _frames(paragraph: Any) -> list[Any]:
    """Text boxes anchored in a paragraph."""
    return [node for node in paragraph.iter() if _is(node, "text-box")]


def _rows(table: Any) -> Iterator[Any]:
    for node in children(table, "table-row", "table-header-rows", "table-rows", "table-row-group"):
        if _is(node, "table-row"):
            yield node
        else:
            yield from _rows(node)


def _cells(row: Any) -> Iterator[Any]:
    for cell in children(row, "table-cell", "covered-table-cell"):
        repeated = attribute(cell, "number-columns-repeated")
        for _ in range(min(int(repeated), _REPEATED_MAX) if repeated.isdigit() else 1):
            yield cell


def _plain(node: Any) -> str:
    """All the text below a node, a space between paragraphs."""
    texts = [_inline(each) for each in node.iter() if local_name(each) in ("p", "h")]
    return " ".join(texts) if texts else "".join(node.itertext()).strip()


def _inline(root: Any) -> str:
    """What is read of a paragraph: spaces, tabs and breaks are elements."""
    pieces: list[str] = [root.text or ""]
    stack: list[Any] = list(reversed(list(root)))
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
            continue
        name = local_name(node)
        stack.append(node.tail or "")
        if name == "s":
            count = attribute(node, "c")
            pieces.append(" " * (min(int(count), _REPEATED_MAX) if count.isdigit() else 1))
        elif name == "tab":
            pieces.append("\t")
        elif name == "line-break":
            pieces.append("\n")
        elif name == "note":
            pieces.append(" ")
            stack.extend(reversed(list(node)))
        elif name and name not in _INLINE_SKIPPED and name != "text-box":
            pieces.append(node.text or "")
            stack.extend(reversed(list(node)))
    return "".join(pieces)
