"""Markdown: CommonMark with tables; YAML front matter gives the title; HTML inside is read too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import MARKDOWN, Hints, text
from engine.documents.formats.dates import iso
from engine.documents.formats.html import drafts_of
from engine.documents.parsed import BlockKind, Draft, Parsed, assemble

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_NESTING_MAX = 60
"""The parser recurses four frames a level, and drops the rest of a file that nests deeper: such
a file is read as plain text."""

_SAID = re.compile(r"^(title|author|date|lang|language|updated|modified):[ \t]*(.+)$", re.MULTILINE)


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read `data` as Markdown; the title is the front matter's, or else the first heading."""
    source = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    said: dict[str, str] = {}
    front = _FRONT_MATTER.match(source)
    if front:
        for name, value in _SAID.findall(front.group(1)):
            said.setdefault(name, clean(value.strip().strip("\"'")))
        source = source[front.end() :]
    tokens = MarkdownIt("commonmark", {"maxNesting": _NESTING_MAX}).enable("table").parse(source)
    deep = any(token.level >= _NESTING_MAX - 1 for token in tokens)
    return assemble(
        said.get("title", ""),
        MARKDOWN,
        text.drafts_of(source) if deep else _drafts(tokens),
        author=said.get("author", ""),
        created=iso(said.get("date", "")),
        modified=iso(said.get("updated", "") or said.get("modified", "")),
        language=said.get("lang", "") or said.get("language", ""),
    )


def _drafts(tokens: Sequence[Token]) -> Iterator[Draft]:
    list_depth = level = 0
    rows: list[list[str]] | None = None
    for token in tokens:
        match token.type:
            case "heading_open":
                level = int(token.tag[1])
            case "heading_close":
                level = 0
            case "list_item_open":
                list_depth += 1
            case "list_item_close":
                list_depth -= 1
            case "fence" | "code_block":
                yield Draft("code", clean(token.content, keep_layout=True))
            case "html_block":
                yield from drafts_of(token.content)
            case "table_open":
                rows = []
            case "tr_open" if rows is not None:
                rows.append([])
            case "table_close" if rows is not None:
                lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
                yield Draft("table", clean(lines, keep_layout=True))
                rows = None
            case "inline":
                line = clean(_inline(token.children or []))
                if rows:
                    rows[-1].append(line.replace("\n", " "))
                    continue
                kind: BlockKind = "paragraph"
                if level:
                    kind, line = "heading", line.replace("\n", " ")
                elif list_depth:
                    kind = "list_item"
                yield Draft(kind, line, level=level)


def _inline(children: Sequence[Token]) -> str:
    """What a reader sees of inline tokens; a soft line break is a space."""
    pieces = []
    for token in children:
        match token.type:
            case "text" | "code_inline" | "text_special":
                pieces.append(token.content)
            case "softbreak":
                pieces.append(" ")
            case "hardbreak":
                pieces.append("\n")
            case "image":
                pieces.append(_inline(token.children or []))
    return "".join(pieces)
