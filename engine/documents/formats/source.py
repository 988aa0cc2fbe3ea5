"""Source code and configuration: as it stands, in blocks that empty lines part."""

from __future__ import annotations

from collections.abc import Iterator

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import CODE, Hints
from engine.documents.parsed import Draft, Parsed, assemble

_BLOCK_LINES = 60
"""A function of the usual length stays one block; longer ones are parted at any empty line."""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a file of code. Its title is its name."""
    return assemble(hints.name.rpartition("/")[2], CODE, _blocks(decode(data)))


def _blocks(source: str) -> Iterator[Draft]:
    """A block ends before a line at the left margin that follows an empty one, or after
    _BLOCK_LINES at the next empty line."""
    lines: list[str] = []
    empty_before = False
    for line in clean(source.expandtabs(4), keep_layout=True).split("\n"):
        starts = (
            empty_before and bool(line) and (not line[0].isspace() or len(lines) > _BLOCK_LINES)
        )
        if starts and lines:
            yield Draft("code", clean("\n".join(lines), keep_layout=True))
            lines = []
        lines.append(line)
        empty_before = not line.strip()
    yield Draft("code", clean("\n".join(lines), keep_layout=True))
