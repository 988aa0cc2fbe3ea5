"""Does a sentence of an answer stand in the passages? By rules, without a model.

A sentence is held against the sentences of its passages that have most of its words (at most
three, together its evidence). It is supported if

- enough of the weight of its words is in the evidence (`COVERAGE_MIN`),
- every number and date in it is in the evidence, and every name in its passages,
- none of them stands where the evidence has another of its kind,
- and what it negates is negated there, what it says plainly is not, and no word is turned into
  its opposite.

Whether a number, date or name took another's place is seen by putting the other one there: if the
longest common subsequence with the evidence grows, it did. So "in 1993" is found out though both
years are in the passage, and a sentence whose parts were only moved is not. Where a form of "be"
with "by" turned a sentence round, names may change places.

Written and bounded on sentences of HotpotQA's paragraphs and of SciFact's abstracts, with one thing
in them changed (`benchmarks/suites/chat/swaps.py`): 98.5 % of the changed are found out, 0.1 % of
the others are not believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.answers.evidence import Passage
from engine.answers.facts import (
    DATES,
    FACTS,
    SOFT_VALUES,
    Kind,
    Token,
    initials,
    is_passive,
    names_in,
    negated,
    read,
)
from engine.answers.opposites import OPPOSITES
from engine.answers.words import coverage, rarity
from engine.models import sentences as splitting
from engine.types import Span

COVERAGE_MIN = 0.3
"""Of SciFact's training claims, 95 % have less than 0.2 in common with the best sentences of a
random abstract, and three quarters have more than 0.37 with those of the one that supports them."""

EVIDENCE_MAX = 3
TOKENS_MAX = 300
"""Of a sentence that are compared; what comes after takes no part."""

FACTS_MAX = 40
"""Facts of a sentence whose place is looked at, the first ones; each against at most
`_OTHERS_MAX` others. So the longest sentence takes some ten milliseconds."""

_OTHERS_MAX = 8
_GAIN_MIN = 0.12
"""Share of a sentence's weight that a further sentence must add to be evidence beside the first."""

_NAME_STEM_MIN = 5
_REACH = 3
_COUNTED: frozenset[Kind] = frozenset(("NUMBER", "YEAR"))

Fault: TypeAlias = Literal["NO_EVIDENCE", "NUMBER", "DATE", "NAME", "NEGATION"]


@dataclass(frozen=True, slots=True)
class Source:
    """A sentence of a passage. `place` is the passage's among those given."""

    place: int
    span: Span
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`faults` is empty for a sentence that stands. `coverage` is 0 to 1; `evidence` are the
    sentences that it was held against, the best first, none where no word is in common."""

    faults: tuple[Fault, ...]
    coverage: float
    evidence: tuple[Source, ...]


class Sources:
    """The sentences of passages, read once for all sentences of an answer."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        cut = [
            (place, span, passage.text[span.start : span.end])
            for place, passage in enumerate(passages)
            for span in splitting.split(passage.text)
        ]
        self.names = names_in(text for _, _, text in cut)
        self.sources = [
            Source(place, span, text, read(text, self.names)[:TOKENS_MAX])
            for place, span, text in cut
        ]
        self._words = [frozenset(_words(source.tokens)) for source in self.sources]
        self._weights = rarity(self._words)
        self._initials = [initials(source.tokens) for source in self.sources]

    def check(self, sentence: str, places: frozenset[int] | None = None) -> Verdict:
        """Hold one sentence against the passages at `places`, all for None."""
        tokens = read(sentence, self.names)[:TOKENS_MAX]
        wanted = frozenset(_words(tokens))
        if not wanted:
            return Verdict((), 1.0, ())
        among = [
            number
            for number, source in enumerate(self.sources)
            if places is None or source.place in places
        ]
        chosen = self._evidence(tokens, among)
        if not chosen:
            return Verdict(("NO_EVIDENCE",), 0.0, ())
        held = frozenset[str]().union(*(self._words[number] for number in chosen))
        share = coverage(wanted, held, self._weights)
        evidence = tuple(self.sources[number] for number in chosen)
        faults: dict[Fault, None] = {}
        if share < COVERAGE_MIN:
            faults["NO_EVIDENCE"] = None
        here = {self.sources[number].place for number in chosen}
        near = [number for number in among if self.sources[number].place in here]
        known = frozenset[str]().union(*(self._words[n] for n in near))
        short = frozenset[str]().union(*(self._initials[n] for n in near))
        for fault in _faults(tokens, evidence, known, short):
            faults[fault] = None
        return Verdict(tuple(faults), share, evidence)

    def _evidence(self, tokens: Sequence[Token], among: Sequence[int]) -> list[int]:
        """The numbers of the sentences that together have most of the words. Facts count little:
        a wrong year must not choose the sentence that has it."""
        plain = frozenset(token.key for token in tokens if token.kind == "WORD")
        named = frozenset(_words(tokens))
        chosen: list[int] = []
        held: frozenset[str] = frozenset()
        before = 0.0
        while len(chosen) < EVIDENCE_MAX:
            best, gained = -1, 0.0
            for number in among:
                words = held | self._words[number]
                share = self._share(plain, words, named)
                if number not in chosen and share > gained:
                    best, gained = number, share
            if best < 0 or (chosen and gained < before + _GAIN_MIN):
                break
            chosen.append(best)
            held |= self._words[best]
            before = gained
        return chosen

    def _share(self, plain: frozenset[str], held: frozenset[str], named: frozenset[str]) -> float:
        facts = coverage(named, held, self._weights)
        return facts if not plain else 0.8 * coverage(plain, held, self._weights) + 0.2 * facts


def _words(tokens: Sequence[Token]) -> list[str]:
    return [token.key for token in tokens if token.kind not in ("STOP", "NOT", "END")]


def _faults(
    tokens: Sequence[Token],
    evidence: Sequence[Source],
    known: frozenset[str],
    short: frozenset[str],
) -> Iterator[Fault]:
    """`known` are the words of the evidence's passages, `short` what their names are for short."""
    best = evidence[0].tokens
    there = {token.key for source in evidence for token in source.tokens}
    compared = 0
    for place, token in enumerate(tokens):
        if token.kind in FACTS:
            absent = token.key not in there and not _is_known_name(token, known | short)
            if absent and token.key not in SOFT_VALUES:
                yield _fault_of(token.kind)
        if not (token.kind in FACTS or token.is_capital) or token.key in short:
            continue
        compared += 1
        if compared <= FACTS_MAX and _took_a_place(tokens, place, best):
            yield _fault_of("NAME" if token.kind == "WORD" else token.kind)
    if _changed_places(tokens, best):
        yield "NAME"
    if _turned(tokens, evidence):
        yield "NEGATION"


def _fault_of(kind: Kind) -> Fault:
    if kind in DATES:
        return "DATE"
    return "NUMBER" if kind == "NUMBER" else "NAME"


def _is_known_name(token: Token, known: frozenset[str]) -> bool:
    """Names may come from elsewhere in the passage (a "he" stands for one), in another form
    ("Italian" for "Italy"'s "Italians"), or as their first letters."""
    if token.kind != "NAME":
        return False
    if token.key in known:
        return True
    beginning = token.key[:_NAME_STEM_MIN]
    return len(beginning) == _NAME_STEM_MIN and any(word.startswith(beginning) for word in known)


def _took_a_place(tokens: Sequence[Token], place: int, best: Sequence[Token]) -> bool:
    """Whether the evidence has another fact of this kind where this one stands."""
    token = tokens[place]
    mine, theirs = [t.key for t in tokens], [t.key for t in best]
    beside = mine[place - 1 : place] or [""], mine[place + 1 : place + 2] or [""]
    others = {
        other.key
        for at, other in enumerate(best)
        if other.key != token.key
        and _alike(token, other)
        and (theirs[at - 1 : at] == beside[0] or theirs[at + 1 : at + 2] == beside[1])
    }
    if not others:
        return False
    together = common(mine, theirs)
    exchanged = is_passive(tokens) != is_passive(best) and token.kind == "NAME"
    if exchanged and mine.count(token.key) <= theirs.count(token.key):
        return False
    for other in sorted(others)[:_OTHERS_MAX]:
        instead = [*mine[:place], other, *mine[place + 1 :]]
        if common(instead, theirs) > together:
            return True
    return False


def _alike(one: Token, other: Token) -> bool:
    """Whether one could stand for the other: both have a capital letter, or both are numbers."""
    if one.is_capital or other.is_capital:
        return one.is_capital and other.is_capital
    return one.kind in _COUNTED and other.kind in _COUNTED


def _changed_places(tokens: Sequence[Token], best: Sequence[Token]) -> bool:
    """Whether two facts of one kind stand in each other's place ("from Baden to Zurich")."""
    if is_passive(tokens) != is_passive(best):
        return False
    mine, theirs = [t.key for t in tokens], [t.key for t in best]
    places = [p for p, token in enumerate(tokens) if token.kind in FACTS][:FACTS_MAX]
    together = common(mine, theirs)
    for one in range(len(places)):
        for other in range(one + 1, min(len(places), one + 4)):
            a, b = places[one], places[other]
            if tokens[a].kind != tokens[b].kind or mine[a] == mine[b]:
                continue
            between = set(mine[a + 1 : b])
            if between and between <= {"and", "or", ","}:
                continue
            turned = list(mine)
            turned[a], turned[b] = mine[b], mine[a]
            if common(turned, theirs) > together + (tokens[a].kind == "NAME"):
                return True
    return False


def _turned(tokens: Sequence[Token], evidence: Sequence[Source]) -> bool:
    """Whether a negation came or went, or a word became its opposite."""
    said = {token.key for token in tokens}
    theirs = [words for source in evidence for words in negated(source.tokens, _REACH)]
    there = {token.key for source in evidence for token in source.tokens}
    denied = {word for words in theirs for word in words}
    ours = negated(tokens, _REACH)
    mine = {word for words in ours for word in words}
    for words in ours:
        if not (set(words) & denied) and not (not set(words) & there and theirs):
            return True
    for words in negated(evidence[0].tokens, _REACH):
        kept = [word for word in words if word in said]
        if kept and not set(kept) & mine:
            return True
    return any(
        other in there and word not in there and other not in said
        for word in said
        for other in OPPOSITES.get(word, ())
    )


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, by Hyyro's bit-parallel method (2004)."""
    masks: Mapping[str, int] = _masks(one)
    ones = (1 << len(one)) - 1
    row = ones
    for word in other:
        hit = row & masks.get(word, 0)
        row = ((row + hit) | (row - hit)) & ones
    return len(one) - row.bit_count()


def _masks(words: Sequence[str]) -> dict[str, int]:
    masks: dict[str, int] = {}
    for place, word in enumerate(words):
        masks[word] = masks.get(word, 0) | 1 << place
    return masks
