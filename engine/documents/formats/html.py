"""HTML: the text a reader sees, block by block. Scripts, styles and navigation are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup
from bs4.builder._lxml import LXMLTreeBuilder
from bs4.element import CData, NavigableString, Tag

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import HTML, Hints
from engine.documents.parsed import BlockKind, Draft, Parsed, assemble


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEFT_OUT = _names(
    "script style nav noscript template svg math iframe object head select button dialog"
)
_BLOCKS = _names(
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main ol p pre section summary "
    "table td th tr ul"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read `data` as an HTML page; the title is the content of `<title>`."""
    soup = _soup(decode(data))
    title = soup.title.get_text() if soup.title else ""
    return assemble(clean(title), HTML, _drafts(soup))


def drafts_of(fragment: str) -> list[Draft]:
    """The blocks of a piece of HTML inside another format."""
    return list(_drafts(_soup(fragment)))


def _soup(text: str) -> BeautifulSoup:
    # lxml ends a document at a NUL, and XHTML is read as the HTML that browsers take it for.
    markup = _XML_DECLARATION.sub("", text.replace("\x00", ""))
    return BeautifulSoup(markup, builder=_WholeBuilder())


class _WholeBuilder(LXMLTreeBuilder):
    """Raises MemoryError where libxml2 was refused memory: it ends there without a word, and the
    rest of the page would be missing. What tells is that it did not close what was open."""

    def feed(self, markup: str | bytes) -> None:
        super().feed(markup)
        soup = self.soup
        if soup is not None and soup.currentTag is not soup:
            raise MemoryError


def _drafts(root: Tag) -> Iterator[Draft]:
    """Walk the tree without recursion (pages nest 100,000 deep) and gather text per block."""
    inline: list[str] = []
    open_blocks: list[Tag] = []
    stack: list[tuple[Tag | NavigableString, bool]] = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            yield from _flush(inline, open_blocks)
            open_blocks.pop()
        elif isinstance(node, NavigableString):
            if type(node) in (NavigableString, CData):
                inline.append(_text_of(node, open_blocks))
        elif isinstance(node, Tag) and not _left_out(node):
            if node.name == "br":
                inline.append("\n")
            elif node.name == "img":
                inline.append(f" {node.get('alt') or ''} ")
            elif node.name == "table" and _is_data_table(node):
                yield from _flush(inline, open_blocks)
                yield Draft("table", _table(node))
            else:
                if node.name in _BLOCKS:
                    yield from _flush(inline, open_blocks)
                    open_blocks.append(node)
                    stack.append((node, True))
                stack.extend((child, False) for child in reversed(_children(node)))
    yield from _flush(inline, open_blocks)


def _children(node: Tag) -> list[Tag | NavigableString]:
    return [child for child in node.children if isinstance(child, (Tag, NavigableString))]


def _left_out(node: Tag) -> bool:
    if node.name in _LEFT_OUT or node.has_attr("hidden"):
        return True
    return bool(_HIDDEN_STYLE.search(str(node.get("style") or "")))


def _text_of(node: NavigableString, open_blocks: list[Tag]) -> str:
    if open_blocks and open_blocks[-1].name == "pre":
        return str(node)
    return re.sub(r"\s+", " ", str(node))


def _flush(inline: list[str], open_blocks: list[Tag]) -> Iterator[Draft]:
    raw = "".join(inline)
    inline.clear()
    if not raw.strip():
        return
    kind, level = _kind_of(open_blocks)
    if kind == "code":
        yield Draft("code", clean(raw, keep_layout=True))
    else:
        yield Draft(kind, clean(raw).replace("\n", " " if level else "\n"), level=level)


def _kind_of(open_blocks: list[Tag]) -> tuple[BlockKind, int]:
    """What the text gathered now is, by the innermost blocks; a list item may hold paragraphs."""
    for block in reversed(open_blocks[-3:]):
        if block.name in _HEADINGS:
            return "heading", _HEADINGS[block.name]
        if block.name == "pre":
            return "code", 0
        if block.name in ("li", "dd", "dt"):
            return "list_item", 0
    return "paragraph", 0


def _is_data_table(table: Tag) -> bool:
    """Not one that lays out a page: that holds tables, headings or lists, and is walked."""
    return table.find(["table", "h1", "h2", "h3", "ul", "ol", "pre"]) is None


def _table(table: Tag) -> str:
    """A line per row, as Markdown writes it: every row is a sentence of its own that way."""
    rows = []
    for row in table.find_all("tr"):
        cells = [
            re.sub(r"\s+", " ", cell.get_text(" ")).strip() for cell in row.find_all(["td", "th"])
        ]
        if any(cells):
            rows.append(clean(f"| {' | '.join(cells)} |"))
    if not rows:
        rows = [re.sub(r"\s+", " ", table.get_text(" ")).strip()]
    return clean("\n".join(rows), keep_layout=True)
