"""Plain text: empty lines part paragraphs, lines with bullets are list items."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.documents.clean import clean, is_list_line, unwrap
from engine.documents.encoding import decode
from engine.documents.formats import PLAIN, Hints
from engine.documents.parsed import Draft, Parsed, assemble

_EMPTY_LINE = re.compile(r"\n[ \t]*\n\s*")


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read `data` as plain text; it has no title and no headings."""
    return assemble("", PLAIN, drafts_of(decode(data)))


def drafts_of(text: str) -> Iterator[Draft]:
    """The paragraphs and list items of a text."""
    # Runs of spaces are cleaned per paragraph: empty lines must still be seen here.
    for paragraph in _EMPTY_LINE.split(clean(text, keep_layout=True)):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        if not lines:
            continue
        if not any(is_list_line(line) for line in lines):
            yield Draft("paragraph", clean(unwrap(lines)))
            continue
        yield from _list(lines)


def _list(lines: list[str]) -> Iterator[Draft]:
    """Each marked line starts an item; lines before the first mark are a paragraph."""
    item: list[str] = []
    marked = False
    for line in lines:
        if is_list_line(line) and item:
            yield Draft("list_item" if marked else "paragraph", clean(unwrap(item)))
            item = []
        marked = marked or is_list_line(line)
        item.append(line)
    yield Draft("list_item" if marked else "paragraph", clean(unwrap(item)))
