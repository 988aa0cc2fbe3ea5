"""A parsed document in sections, so that nobody after the parser holds all of a long one.

What is true of every result: each section is a `Parsed` of its own, with what is known of the whole
document; the sections' texts, joined by nothing, are the canonical text; a block that does not fit
into a section is cut at a line or a space, into blocks of the same kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.documents import detect
from engine.documents.encoding import decoded, encoding_of
from engine.documents.formats import PLAIN, Hints
from engine.documents.formats.text import drafts_of
from engine.documents.language import language_of
from engine.documents.parse import parse
from engine.documents.parsed import Block, Parsed, assemble
from engine.errors import DocumentUnreadable, ParserLimitExceeded
from engine.types import Span

SECTION_CHARS_MAX = 1_000_000
"""About 400 dense pages, some 1,200 passages: what one step of the pipeline holds of a text."""

SECTION_BLOCKS_MAX = 20_000
CHARS_MAX = 400_000_000
"""Of all sections: spans are counted in 32 bits, and a file has 256 MiB at the most."""

_PARAGRAPH_END = re.compile(r"\n[ \t\r]*\n")
_GAP = "\n\n"


def parse_in_sections(
    data: bytes, name: str = "", media_type: str = "", hints: Hints | None = None
) -> Iterator[Parsed]:
    """As `parse.parse_document`, in sections; plain text is read in pieces, so that it takes
    little memory beside `data`, however long it is."""
    hints = hints or Hints(name, media_type)
    found = detect.detect(data, hints.name, hints.media_type)
    if found == PLAIN:
        return _plain(data)
    return sections(parse(data, found, hints))


def sections(
    parsed: Parsed, *, chars_max: int = SECTION_CHARS_MAX, blocks_max: int = SECTION_BLOCKS_MAX
) -> Iterator[Parsed]:
    """`parsed` in sections of at most so many characters and blocks."""
    if len(parsed.text) <= chars_max and len(parsed.blocks) <= blocks_max:
        yield parsed
        return
    start, run = 0, list[Block]()
    for block in _small_blocks(parsed, chars_max):
        if run and (block.span.end - start > chars_max or len(run) == blocks_max):
            yield _section(parsed, run, start, block.span.start)
            start, run = block.span.start, []
        run.append(block)
    yield _section(parsed, run, start, len(parsed.text))


def _section(parsed: Parsed, blocks: Sequence[Block], start: int, end: int) -> Parsed:
    moved = tuple(
        replace(block, span=Span(block.span.start - start, block.span.end - start))
        for block in blocks
    )
    return replace(parsed, text=parsed.text[start:end], blocks=moved)


def _small_blocks(parsed: Parsed, chars_max: int) -> Iterator[Block]:
    for block in parsed.blocks:
        start = block.span.start
        while block.span.end - start > chars_max:
            end = _cut(parsed.text, start, start + chars_max)
            yield replace(block, span=Span(start, end))
            start = end
            while start < block.span.end and parsed.text[start].isspace():
                start += 1
        if start < block.span.end:
            yield replace(block, span=Span(start, block.span.end))


def _cut(text: str, start: int, end: int) -> int:
    """Where to cut text[start:end] near its end: at a line, a space, or there."""
    for mark in ("\n", " "):
        at = text.rfind(mark, start + (end - start) // 2, end)
        if at > start:
            return at
    return end


def _plain(data: bytes) -> Iterator[Parsed]:
    held: Parsed | None = None
    total, language, gap = 0, "", ""
    for piece in _pieces(decoded(data, encoding_of(data))):
        made = assemble("", PLAIN, drafts_of(piece))
        for section in sections(made) if made.blocks else ():
            if held is None:
                language = language_of(section)
            else:
                yield replace(held, text=held.text + gap)
            held, gap = replace(section, language=language), ""
            total += len(section.text)
            if total > CHARS_MAX:
                raise _too_long()
        gap = _GAP
    if held is None:
        raise DocumentUnreadable(
            f"the file (text/plain, {len(data)} bytes) holds no text; send one with content",
            metadata={"media_type": PLAIN, "size_bytes": len(data)},
        )
    yield held


def _too_long() -> ParserLimitExceeded:
    return ParserLimitExceeded(
        f"the file holds more than {CHARS_MAX} characters; split it and send the parts",
        metadata={"bound": CHARS_MAX},
    )


def _pieces(texts: Iterator[str]) -> Iterator[str]:
    """Texts cut anew, at empty lines where there are some near, else at lines or spaces."""
    kept = ""
    for text in texts:
        kept += text
        if len(kept) < SECTION_CHARS_MAX // 2:
            continue
        at = _piece_end(kept)
        yield kept[:at]
        kept = kept[at:]
    yield kept


def _piece_end(text: str) -> int:
    middle = len(text) // 2
    ends = [found.end() for found in _PARAGRAPH_END.finditer(text, middle)]
    return ends[-1] if ends else _cut(text, 0, len(text))
