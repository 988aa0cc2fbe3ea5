"""A parsed document as units: the smallest parts that chunks are made of.

What is true of every result: units are in order, do not overlap, lie within one block, begin and
end with a character that is not white space, and together hold every such character of the text,
boilerplate left out (unless there is nothing else, or it is a few lines right below a heading). A
row of a table is one unit, and so is a word, however long; only WHOLE_CHARS_MAX, and a model that
reads less than one of them, cut these: a row at its cells first, then at white space; a word beside
its punctuation first, then between graphemes (a letter with its marks, an emoji sequence), and
inside of one only if that alone is too long.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.documents.parsed import Block, Parsed
from engine.models import sentences
from engine.types import Span

UNIT_CHARS_MAX = 400
"""About 100 tokens of English: half a chunk of 200, so that a unit seldom needs a second cut."""

WHOLE_CHARS_MAX = 10_000
"""Longest row or word that is kept whole: 2,048 tokens, the most of a passage, are some 10,000
letters. A model may take any run of letters for one unknown token, so its count bounds nothing."""

BELOW_HEADING_CHARS_MAX = 400
"""Longest boilerplate that belongs to the heading above it: four lines of a mail."""

_LINE = re.compile(r"[^\n]+")
_SPACE = re.compile(r"\s+")
_CELL = re.compile(r"(?<=\s)\|(?=\s+[^\s|])")
_ZWJ = "\u200d"


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, a line of a table or of code, or a heading. `block` is an index of blocks.

    `is_heading` too is short boilerplate right below a heading: who sent a mail and when, who wrote
    an article. It stays with what comes after. `fenced`: boilerplate that is in no unit stands
    before it, so no chunk holds both it and the unit before.
    """

    span: Span
    block: int
    is_heading: bool = False
    fenced: bool = False


def split_units(parsed: Parsed, chars_max: int = UNIT_CHARS_MAX) -> list[Unit]:
    """The units of `parsed`, of `chars_max` code points at most where white space allows."""
    units: list[Unit] = []
    passed_over, below = _boilerplate(parsed.blocks)
    fenced = False
    for index, block in enumerate(parsed.blocks):
        if index in passed_over:
            fenced = bool(units)
            continue
        start = block.span.start
        text = parsed.text[start : block.span.end]
        heading = block.kind == "heading" or index in below
        for piece in _pieces(text, block.kind):
            whole = WHOLE_CHARS_MAX if block.kind == "table" else chars_max
            for cut in _within(text, piece, whole, table=block.kind == "table"):
                span = Span(start + cut.start, start + cut.end)
                units.append(Unit(span, index, heading, fenced))
                fenced = False
    return units


def _boilerplate(blocks: Sequence[Block]) -> tuple[set[int], set[int]]:
    """Indices of the boilerplate that is in no unit, and of that which belongs to a heading: what
    stands between it and what follows, of BELOW_HEADING_CHARS_MAX in all. Both are empty where all
    is boilerplate, so that no text is lost."""
    passed_over: set[int] = set()
    below: set[int] = set()
    first = 0
    for index, block in enumerate(blocks):
        if block.role == "body":
            run = range(first, index)
            short = run and _reach(blocks[first], blocks[index - 1]) <= BELOW_HEADING_CHARS_MAX
            titled = first and blocks[first - 1].kind == "heading"
            (below if short and titled else passed_over).update(run)
            first = index + 1
    if first:
        passed_over.update(range(first, len(blocks)))
    return passed_over, below


def _reach(first: Block, last: Block) -> int:
    return last.span.end - first.span.start


def _pieces(text: str, kind: str) -> list[Span]:
    if kind in ("table", "code"):
        lines = (_trim(text, match.start(), match.end()) for match in _LINE.finditer(text))
        return [line for line in lines if line.start < line.end]
    if kind == "heading":
        return [Span(0, len(text))]
    return _with_whole_words(sentences.split(text))


def _with_whole_words(pieces: Sequence[Span]) -> list[Span]:
    """Sentences, with those together that were cut inside a word that is longer than one may be."""
    joined: list[Span] = []
    was_cut = False
    for piece in pieces:
        if was_cut and joined[-1].end == piece.start:
            joined[-1] = Span(joined[-1].start, piece.end)
        else:
            joined.append(piece)
        was_cut = _length(piece) == sentences.SENTENCE_CHARS_MAX
    return joined


def _within(text: str, span: Span, chars_max: int, *, table: bool) -> list[Span]:
    """`span` in parts of `chars_max` code points at most, words whole up to WHOLE_CHARS_MAX."""
    is_word = _SPACE.search(text, span.start, span.end) is None
    most = max(chars_max, WHOLE_CHARS_MAX) if is_word else chars_max
    if _length(span) <= most:
        return [span]
    parts = split_span(text, span, most, table=table)
    return [piece for part in parts for piece in _within(text, part, chars_max, table=table)]


def _length(span: Span) -> int:
    return span.end - span.start


def split_span(text: str, span: Span, chars_max: int, *, table: bool = False) -> list[Span]:
    """`span` in parts of about the same length, of `chars_max` code points at most as far as it
    can be cut between cells (of a `table`), else between words, else inside the one word it is.

    There are two parts at least where `span` is longer than that.
    """
    if _length(span) <= chars_max:
        return [span]
    places: list[int] = []
    if table:
        places = [match.start() for match in _CELL.finditer(text, span.start + 1, span.end)]
    if not places:
        places = [match.start() for match in _SPACE.finditer(text, span.start, span.end)]
    if places:
        return _cut_at(text, span, places, chars_max)
    return _cut_inside(text, span, chars_max)


def _cut_at(text: str, span: Span, places: Sequence[int], chars_max: int) -> list[Span]:
    """Cut at some of `places`: each part as long as it may be without growing far over a share."""
    share = -(-_length(span) // -(-_length(span) // chars_max))
    cuts, start, last = [], span.start, span.start
    for place in [*places, span.end]:
        # Beyond the share only as far as chars_max, and there only if the part is short without.
        too_long = place - start > chars_max or last - start >= share
        if too_long and last > start:
            cuts.append(_trim(text, start, last))
            start = last
        last = place
    cuts.append(_trim(text, start, span.end))
    return [cut for cut in cuts if cut.start < cut.end]


def _cut_inside(text: str, span: Span, chars_max: int) -> list[Span]:
    """Cut a word: beside a sign that is no letter, else between graphemes, else anywhere."""
    cuts, start = [], span.start
    share = -(-_length(span) // -(-_length(span) // chars_max))
    while span.end - start > chars_max:
        end = _inside(text, start, min(start + share, start + chars_max))
        cuts.append(Span(start, end))
        start = end
    return [*cuts, Span(start, span.end)]


def _inside(text: str, start: int, end: int) -> int:
    """Where in (start, end] to cut text[start:], as late as it is good."""
    for at in range(end, start + (end - start) // 2, -1):
        if not (text[at - 1].isalnum() and text[at : at + 1].isalnum()) and is_grapheme_boundary(
            text, at
        ):
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


def split_unit(text: str, unit: Unit, parts: int, *, table: bool = False) -> Iterator[Unit]:
    """`unit` in at least two units, if it has that many code points; about `parts` if words, or
    the cells of a row of a `table`, are short enough."""
    chars_max = max(1, _length(unit.span) // parts)
    for n, cut in enumerate(split_span(text, unit.span, chars_max, table=table)):
        yield Unit(cut, unit.block, unit.is_heading, unit.fenced and n == 0)
