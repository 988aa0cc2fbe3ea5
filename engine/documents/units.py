"""A parsed document as units: the smallest parts that chunks are made of.

What is true of every result: units are in order, do not overlap, lie within one block, begin and
end with a character that is not white space, and together hold every such character of the text.
No unit ends inside a word, unless the word alone is longer than a unit may be; then none ends
inside a grapheme (a letter with its marks, an emoji sequence), unless that alone is too long.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from engine.documents.parsed import Parsed
from engine.models import sentences
from engine.types import Span

UNIT_CHARS_MAX = 400
"""About 100 tokens of English: half a chunk of 200, so that a unit seldom needs a second cut."""

_LINE = re.compile(r"[^\n]+")
_SPACE = re.compile(r"\s+")
_ZWJ = "\u200d"


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, a line of a table or of code, or a heading. `block` is an index of blocks."""

    span: Span
    block: int
    is_heading: bool = False


def split_units(parsed: Parsed, chars_max: int = UNIT_CHARS_MAX) -> list[Unit]:
    """The units of `parsed`, each of `chars_max` code points at most."""
    units = []
    for index, block in enumerate(parsed.blocks):
        start = block.span.start
        text = parsed.text[start : block.span.end]
        heading = block.kind == "heading"
        for piece in _pieces(text, block.kind):
            for cut in split_span(text, piece, chars_max):
                units.append(Unit(Span(start + cut.start, start + cut.end), index, heading))
    return units


def _pieces(text: str, kind: str) -> list[Span]:
    if kind in ("table", "code"):
        lines = (_trim(text, match.start(), match.end()) for match in _LINE.finditer(text))
        return [line for line in lines if line.start < line.end]
    if kind == "heading":
        return [Span(0, len(text))]
    return sentences.split(text)


def split_span(text: str, span: Span, chars_max: int) -> list[Span]:
    """`span` in parts of `chars_max` code points at most, of about the same length.

    Cuts fall on white space where there is some near, else between graphemes.
    """
    length = span.end - span.start
    if length <= chars_max:
        return [span]
    parts = -(-length // chars_max)
    cuts = []
    start = span.start
    while span.end - start > chars_max:
        wanted = min(start + chars_max, start + -(-(span.end - start) // parts))
        end = _cut(text, start, wanted, min(start + chars_max, span.end))
        cuts.append(_trim(text, start, end))
        start = end
        parts = max(parts - 1, 1)
    cuts.append(_trim(text, start, span.end))
    return [cut for cut in cuts if cut.start < cut.end]


def _cut(text: str, start: int, wanted: int, end: int) -> int:
    """Where to cut text[start:end], near `wanted`: a space, else a grapheme, else anywhere."""
    after = _SPACE.search(text, wanted, end)
    if after:
        return after.start()
    for at in range(end, start, -1):
        if text[at - 1].isspace() or (at < len(text) and text[at].isspace()):
            return at
    for at in range(end, start, -1):
        if is_grapheme_boundary(text, at):
            return at
    return end


def is_grapheme_boundary(text: str, at: int) -> bool:
    """Whether a reader sees one character end and another begin before text[at].

    The rules GB3, GB6 to GB9a and GB11 to GB13 of UAX 29, with general categories for its
    property tables and every joiner taken to join.
    """
    if at <= 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if unicodedata.category(after) in ("Mn", "Me", "Mc") or after == _ZWJ or before == _ZWJ:
        return False
    if before == "\r" and after == "\n":
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff":  # skin tones
        return False
    if _is_flag_letter(after) and _is_flag_letter(before):
        return _flag_letters_before(text, at) % 2 == 0
    return not (_is_jamo(before) and "\u1160" <= after <= "\u11ff")


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_letters_before(text: str, at: int) -> int:
    return next(
        (n for n in range(at) if not _is_flag_letter(text[at - 1 - n])),
        at,
    )


def _is_jamo(char: str) -> bool:
    return "\u1100" <= char <= "\u11ff" or "\uac00" <= char <= "\ud7a3"


def _trim(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end)


def split_unit(text: str, unit: Unit, parts: int) -> Iterator[Unit]:
    """`unit` in at least `parts` units, if it has that many code points."""
    chars_max = max(1, (unit.span.end - unit.span.start) // parts)
    for cut in split_span(text, unit.span, chars_max):
        yield Unit(cut, unit.block, unit.is_heading)
