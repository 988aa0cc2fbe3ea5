"""reStructuredText, read by docutils with everything off that opens files or runs code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import RST, Hints
from engine.documents.formats import text as plain
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, assemble

_SETTINGS: dict[str, object] = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 6,
    "warning_stream": False,
    "syntax_highlight": "none",
    "doctitle_xform": False,
    "docinfo_xform": True,
    "line_length_limit": 1_000_000,
    "_disable_config": True,
}
_SKIPPED = frozenset(
    (
        *("comment", "system_message", "substitution_definition", "target", "pending", "raw"),
        *("meta", "decoration", "citation_reference", "problematic"),
    )
)


_SOURCE_CHARS_MAX = 2_000_000
_PARAGRAPH_CHARS_MAX = 20_000
_INDENT_MAX = 120
"""Beyond these docutils takes time with the square of the length, and no one wrote it by hand:
such a file is read as plain text."""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read an .rst file. What directives of a program are not known is left out."""
    from docutils.core import publish_doctree
    from docutils.utils import SystemMessage

    source = decode(data).replace("\x00", "")
    if not _is_by_hand(source):
        return assemble("", RST, plain.drafts_of(source))
    try:
        tree = publish_doctree(source, settings_overrides=_SETTINGS)
    except (SystemMessage, RecursionError, ValueError):
        return assemble("", RST, plain.drafts_of(source))
    drafts = list(_blocks(tree, 0, listed=False))
    return assemble("", RST, drafts)


def _is_by_hand(source: str) -> bool:
    if len(source) > _SOURCE_CHARS_MAX:
        return False
    length = 0
    for line in source.expandtabs(8).split("\n"):
        bare = line.strip()
        if not bare:
            length = 0
            continue
        length += len(line)
        if length > _PARAGRAPH_CHARS_MAX or line[:_INDENT_MAX].isspace():
            return False
    return True


def _blocks(parent: Any, level: int, *, listed: bool) -> Iterator[Draft]:
    for node in parent.children:
        name = node.tagname
        if name in _SKIPPED:
            continue
        if name in ("title", "subtitle", "rubric"):
            yield Draft("heading", _line(node), level=min(max(level, 1), 6))
        elif name == "section":
            yield from _blocks(node, level + 1, listed=False)
        elif name in ("literal_block", "doctest_block", "math_block"):
            yield Draft("code", clean(node.astext(), keep_layout=True))
        elif name == "table":
            yield from (Draft("paragraph", _line(n)) for n in node.children if n.tagname == "title")
            yield Draft("table", table_text(_rows(node)))
        elif name in ("paragraph", "term", "caption", "attribution"):
            kind = "list_item" if listed else "paragraph"
            yield Draft(kind, _line(node))  # type: ignore[arg-type]
        elif name == "line_block":
            yield Draft("paragraph", clean(node.astext()))
        elif name in ("field", "docinfo", "option_list_item"):
            yield Draft("list_item", clean(node.astext().replace("\n\n", ": ", 1)))
        elif name == "image":
            yield Draft("paragraph", clean(str(node.get("alt", ""))))
        elif node.children and name != "Text":
            inner = listed or name in ("list_item", "definition_list_item")
            yield from _blocks(node, level, listed=inner)


def _line(node: Any) -> str:
    return clean(node.astext()).replace("\n", " ")


def _rows(table: Any) -> Iterator[list[str]]:
    for row in table.findall():
        if getattr(row, "tagname", "") == "row":
            yield [_line(entry) for entry in row.children]
