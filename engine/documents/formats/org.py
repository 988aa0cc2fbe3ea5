"""Org: headings by their stars, lists, tables and blocks; drawers and keywords are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.documents.clean import clean, unwrap
from engine.documents.encoding import decode
from engine.documents.formats import ORG, Hints
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, assemble

_HEADING = re.compile(
    r"(\*+)[ \t]+(?:(?:TODO|DONE|NEXT|WAITING)[ \t]+)?(?:\[#.\][ \t]+)?"
    r"(.+?)(?:[ \t]+:[\w@#%:]+:)?[ \t]*$"
)
_KEYWORD = re.compile(r"[ \t]*#\+(\w+):[ \t]*(.*)$")
_BEGIN = re.compile(r"[ \t]*#\+begin_(\w+)", re.IGNORECASE)
_DRAWER = re.compile(r"[ \t]*:([\w-]+):[ \t]*$")
_PLANNING = re.compile(r"[ \t]*(?:SCHEDULED|DEADLINE|CLOSED):[ \t]*[<\[]")
_ITEM = re.compile(
    r"([ \t]*)(?:[-+]|\d{1,4}[.)])[ \t]+(?:\[[ X-]\][ \t]+)?(.*)$|[ \t]+\*[ \t]+(.*)$"
)
_RULE = re.compile(r"[ \t]*\|[-+|]*\|?[ \t]*$")
_LINK = re.compile(r"\[\[([^\[\]]{1,2000})\](?:\[([^\[\]]{1,2000})\])?\]")
_EMPHASIS = re.compile(r"(?<![\w*/_=~+])([*/_=~+])(?=\S)(.{1,400}?)(?<=\S)\1(?![\w*/_=~+])")
_CODE_BLOCKS = frozenset(("src", "example", "export"))


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read an .org file; `#+TITLE`, `#+AUTHOR`, `#+DATE` and `#+LANGUAGE` say what they say."""
    lines = clean(decode(data), keep_layout=True).split("\n")
    said: dict[str, str] = {}
    drafts = list(_drafts(lines, said))
    return assemble(
        inline(said.get("title", "")),
        ORG,
        drafts,
        author=inline(said.get("author", "")),
        created=said.get("date", "").strip("<>[]")[:10],
        language=said.get("language", ""),
    )


def inline(text: str) -> str:
    """A text without its marks: links as what they show, emphasized words bare."""
    shown = _LINK.sub(lambda found: found.group(2) or found.group(1), text)
    return clean(_EMPHASIS.sub(r"\2", shown))


def _drafts(lines: list[str], said: dict[str, str]) -> Iterator[Draft]:
    open_lines: list[str] = []
    item = False

    def flush() -> Iterator[Draft]:
        if open_lines:
            yield Draft("list_item" if item else "paragraph", inline(unwrap(open_lines)))
            open_lines.clear()

    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        heading, listed = _HEADING.match(line), _ITEM.match(line)
        if heading or listed or not line.strip() or _is_special(line):
            yield from flush()
            item = False
        if heading:
            level = min(len(heading.group(1)), 6)
            yield Draft("heading", inline(heading.group(2)).replace("\n", " "), level=level)
        elif _BEGIN.match(line):
            draft, at = _block(lines, at, _BEGIN.match(line))
            yield draft
        elif line.lstrip().startswith("|"):
            draft, at = _table(lines, at - 1)
            yield draft
        elif keyword := _KEYWORD.match(line):
            said.setdefault(keyword.group(1).lower(), keyword.group(2).strip())
        elif _DRAWER.match(line):
            at = _after_drawer(lines, at)
        elif listed:
            item = True
            open_lines.append(listed.group(2) or listed.group(3) or "")
        elif line.strip() and not _is_special(line):
            open_lines.append(line)
    yield from flush()


def _is_special(line: str) -> bool:
    return bool(
        line.lstrip().startswith(("|", "#+", "# ")) or _DRAWER.match(line) or _PLANNING.match(line)
    )


def _block(lines: list[str], at: int, begin: re.Match[str] | None) -> tuple[Draft, int]:
    """A block from the line after its beginning to its end, or that of the file."""
    name = begin.group(1).lower() if begin else ""
    end = f"#+end_{name}"
    inside = []
    while at < len(lines) and lines[at].strip().lower() != end:
        inside.append(lines[at])
        at += 1
    if name in _CODE_BLOCKS:
        return Draft("code", clean("\n".join(inside), keep_layout=True)), at + 1
    return Draft("paragraph", inline(unwrap([line for line in inside if line.strip()]))), at + 1


def _table(lines: list[str], at: int) -> tuple[Draft, int]:
    rows = []
    while at < len(lines) and lines[at].lstrip().startswith("|"):
        if not _RULE.match(lines[at]):
            rows.append([inline(cell) for cell in lines[at].strip().strip("|").split("|")])
        at += 1
    return Draft("table", table_text(rows)), at


def _after_drawer(lines: list[str], at: int) -> int:
    """After `:END:`; a drawer that does not end hides nothing."""
    for end in range(at, min(at + 500, len(lines))):
        if lines[end].strip().upper() == ":END:":
            return end + 1
    return at
