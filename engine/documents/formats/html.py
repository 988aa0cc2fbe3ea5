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
from engine.documents.formats.dates import iso
from engine.documents.parsed import BlockKind, Draft, Parsed, Role, assemble


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
_MARGINS = _names("header footer aside")
_MARGIN_ROLES = _names("banner contentinfo navigation complementary")
_CONTENT = _names("main article section blockquote")
"""A header within one of these is that of the text, not of the site."""

_METAS_MAX = 500
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read `data` as an HTML page; the title is the content of `<title>`. Language, author and
    dates are those that the page says of itself."""
    soup = _soup(decode(data))
    title = soup.title.get_text() if soup.title else ""
    said = _said(soup)
    root = soup.find("html")
    return assemble(
        clean(title),
        HTML,
        _drafts(soup),
        author=clean(said.get("author", "") or said.get("dc.creator", "")),
        created=iso(said.get("article:published_time", "") or said.get("date", "")),
        modified=iso(said.get("article:modified_time", "") or said.get("last-modified", "")),
        language=str(root.get("lang") or "") if isinstance(root, Tag) else "",
    )


def _said(soup: BeautifulSoup) -> dict[str, str]:
    """What `<meta>` elements say, by their name."""
    said: dict[str, str] = {}
    for meta in soup.find_all("meta", limit=_METAS_MAX):
        name = str(meta.get("name") or meta.get("property") or "").lower()
        said.setdefault(name, str(meta.get("content") or "").strip())
    return said


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
    open_blocks = _Open()
    stack: list[tuple[Tag | NavigableString, bool]] = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            yield from _flush(inline, open_blocks)
            open_blocks.leave()
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
                yield Draft("table", _table(node), role=open_blocks.role)
            else:
                if node.name in _BLOCKS:
                    yield from _flush(inline, open_blocks)
                    open_blocks.enter(node)
                    stack.append((node, True))
                stack.extend((child, False) for child in reversed(_children(node)))
    yield from _flush(inline, open_blocks)


class _Open:
    """The blocks that are open, and whether they make up the margin of a page."""

    def __init__(self) -> None:
        self.blocks: list[Tag] = []
        self._content = self._margin = 0

    @property
    def role(self) -> Role:
        """Of text that comes now."""
        return "boilerplate" if self._margin else "body"

    def enter(self, node: Tag) -> None:
        """`node` is open from now on."""
        self.blocks.append(node)
        self._margin += bool(self._margin) or (not self._content and _is_margin(node))
        self._content += bool(self._content) or node.name in _CONTENT

    def leave(self) -> None:
        """The innermost block is closed."""
        self.blocks.pop()
        self._margin = max(0, self._margin - 1)
        self._content = max(0, self._content - 1)


def _is_margin(node: Tag) -> bool:
    return node.name in _MARGINS or str(node.get("role") or "") in _MARGIN_ROLES


def _children(node: Tag) -> list[Tag | NavigableString]:
    return [child for child in node.children if isinstance(child, (Tag, NavigableString))]


def _left_out(node: Tag) -> bool:
    if node.name in _LEFT_OUT or node.has_attr("hidden"):
        return True
    return bool(_HIDDEN_STYLE.search(str(node.get("style") or "")))


def _text_of(node: NavigableString, open_blocks: _Open) -> str:
    if open_blocks.blocks and open_blocks.blocks[-1].name == "pre":
        return str(node)
    return re.sub(r"\s+", " ", str(node))


def _flush(inline: list[str], open_blocks: _Open) -> Iterator[Draft]:
    raw = "".join(inline)
    inline.clear()
    if not raw.strip():
        return
    kind, level = _kind_of(open_blocks)
    # A heading in the margin is often the title of the page, and stays one.
    role: Role = "body" if level else open_blocks.role
    if kind == "code":
        yield Draft("code", clean(raw, keep_layout=True), role=role)
    else:
        text = clean(raw).replace("\n", " " if level else "\n")
        yield Draft(kind, text, level=level, role=role)


def _kind_of(open_blocks: _Open) -> tuple[BlockKind, int]:
    """What the text gathered now is, by the innermost blocks; a list item may hold paragraphs."""
    for block in reversed(open_blocks.blocks[-3:]):
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
