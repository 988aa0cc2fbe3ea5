"""Where the sentences of a text begin and end: rules for scientific and everyday prose.

A text is first cut into blocks (blank lines, list items, headings, table rows), and each block
at terminators that end a sentence. A period does not end one after an abbreviation ("Fig. 2",
"et al. showed"), an initial ("J. Smith"), in a number ("3.14") or before a lower-case word;
after a single letter or a dotted acronym ("hepatitis B. The", "the U.S. We") it does only
before a word that usually opens sentences.

What is true of every result: spans are in order, do not overlap, begin and end with a character
that is not white space, hold at most SENTENCE_CHARS_MAX characters, and together hold every
character that is not white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.types import Span

SENTENCE_CHARS_MAX = 1000
"""Longer ones (a table read as text, a list of names) are cut at white space."""

_BLOCK = re.compile(
    r"""
    \n[^\S\n]*\n\s*                                   # blank lines
    | \n(?=[^\S\n]*                                  # a list item, heading or row begins
        (?:[-*+•‣◦▪\u2013\u2014]|\(?\d{1,3}[.)]|\(?[a-zA-Z]\)|\#{1,6}|\|)[^\S\n])
    | (?<=\n)(?=\#{1,6}[^\S\n])                       # a heading begins
    """,
    re.VERBOSE,
)
_HEADING_LINE = re.compile(r"\#{1,6}[^\S\n][^\n]*(?:\n|$)")
_TERMINATOR = re.compile(r"""(?<![.!?…])[.!?…]+[)\]}"'”’»*_]*(?=\s)|[。！？｡]+[」』”’）)]*""")  # noqa: RUF001
_WORD_BEFORE = re.compile(r"[^\s([{\"'“‘]*$")  # noqa: RUF001
_OPENING = re.compile(r"[\s(\[{\"'“‘«*_]*")  # noqa: RUF001
_WORD = re.compile(r"[^\s,;:]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]$")
_ITEM_MARK = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z]|[ivxlc]{1,5})$")

_SPACE = re.compile(r"\s")
_NOT_SPACE = re.compile(r"\S")
_MARK_CHARS_MAX = 12
_WORD_CHARS_MAX = 40


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    "dr mr mrs ms prof rev hon gen col capt lt sgt st mt messrs mme mlle fr sen rep gov pres "
    "al vs v viz cf e.g i.e eg ie ca approx resp incl excl esp ibid op cit ph.d m.d b.sc m.sc "
    "dept univ assn bros ave blvd rd est spp sp var subsp ssp syn nat int proc trans conf symp "
    "z.b d.h u.a bzw usw ggf evtl vgl"
)
_BEFORE_NUMBERS = _words(
    "fig figs figure eq eqs eqn ref refs sec sect ch chap vol vols no nos nr p pp par para "
    "art app tab suppl ver ed eds jan feb mar apr jun jul aug sep sept oct nov dec"
)
_MAY_END = _words("inc ltd co corp jr sr etc a.m p.m u.s u.k u.n e.u")
_OPENERS = _words(
    "a an the this that these those it its they their there we our i he she his her you your "
    "in on at by for from with to of as if when while where after before during since because "
    "although though however therefore thus hence moreover furthermore finally here then "
    "and but or nor so yet not no all both each some many most such several other another "
    "what which who why how is are was were do does did can may it's"
)


def split(text: str) -> list[Span]:
    """The sentences of `text`, as spans into it. Empty for a text of nothing but white space."""
    spans: list[Span] = []
    for start, end in _blocks(text):
        for piece_start, piece_end in _sentences(text, start, end):
            spans.extend(_trimmed(text, piece_start, piece_end))
    return spans


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        heading = _HEADING_LINE.match(text, start)
        if heading:
            end = heading.end()
        else:
            cut = _BLOCK.search(text, start + 1)
            end = cut.end() if cut else len(text)
        yield start, end
        start = end


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for match in _TERMINATOR.finditer(text, start, end):
        if match.end() < end and _ends_sentence(text, begin, end, match):
            yield begin, match.end()
            begin = match.end()
    if begin < end:
        yield begin, end


def _ends_sentence(text: str, begin: int, end: int, match: re.Match[str]) -> bool:
    mark = match.group()
    if mark[0] in "。！？｡":  # noqa: RUF001
        return True
    opening = _OPENING.match(text, match.end(), end)
    following = _WORD.match(text, opening.end() if opening else match.end(), end)
    if following is None:
        return True
    word = following.group()
    if not _may_open(word):
        return False
    if mark[0] != "." or mark.startswith(".."):
        return True
    before = _WORD_BEFORE.search(text, max(begin, match.start() - _WORD_CHARS_MAX), match.start())
    return _period_ends(text, begin, before.group() if before else "", match.start(), word)


def _period_ends(text: str, begin: int, before: str, stop: int, word: str) -> bool:
    lower = before.lower()
    if stop - begin <= _MARK_CHARS_MAX and _ITEM_MARK.match(text[begin:stop].strip()):
        return False
    if lower in _ABBREVIATIONS:
        return False
    if lower in _BEFORE_NUMBERS:
        # "Fig. 2", "Sec. III" and "No. 5" go on; "Fig. The" and "said no. Then" do not.
        return not (word[0].isdigit() or (word.rstrip(".").isupper() and not _opens(word)))
    if lower in _MAY_END or _DOTTED.match(before) or len(_LETTERS.findall(before)) == 0:
        return _opens(word) or not before[:1].isalpha()
    if len(before) == 1 and before.isupper():
        return _opens(word)
    return True


def _opens(word: str) -> bool:
    return word.strip(".'’").lower() in _OPENERS  # noqa: RUF001


def _may_open(word: str) -> bool:
    """Not a lower-case word, unless it is a name such as p53, mRNA or one in Greek letters."""
    if not word[0].islower():
        return True
    return any(c.isdigit() or c.isupper() for c in word) or not word[0].isascii()


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """[start, end) without white space around it, in pieces of SENTENCE_CHARS_MAX at most."""
    while (found := _NOT_SPACE.search(text, start, end)) is not None:
        start = found.start()
        cut = min(end, start + SENTENCE_CHARS_MAX)
        if cut < end and not text[cut].isspace():
            spaces = [match.start() for match in _SPACE.finditer(text, start, cut)]
            cut = spaces[-1] if spaces else cut
        yield Span(start, start + len(text[start:cut].rstrip()))
        start = cut
