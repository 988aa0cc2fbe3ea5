"""Citations out of the markers that a language model writes: "Water boils at 100 C [2]."

Marker n stands for the n-th passage of the prompt, from 1. What the model claims is not taken on
trust: the quote is the sentence of that passage which shares most words with the statement, and
where none shares enough, the marker is reported as unverified.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.answers.evidence import Citation, Passage, cite
from engine.answers.words import coverage, rarity, terms
from engine.models import sentences
from engine.types import Span

OVERLAP_MIN = 0.3
"""Least share of a statement's weighted terms that its quote must hold. A paraphrase keeps names
and numbers, which weigh most; two random sentences of one topic share about a tenth."""

_MARKER = re.compile(r"\s*[\[\u3010](\d{1,3}(?:\s*[,;]\s*\d{1,3})*)[\]\u3011]")
_NUMBER = re.compile(r"\d+")

MarkerFault: TypeAlias = Literal["UNKNOWN_PASSAGE", "LOW_OVERLAP"]


@dataclass(frozen=True, slots=True)
class UnverifiedMarker:
    """A marker for which no quote was found. `answer_span` is the statement it stands at."""

    number: int
    answer_span: Span
    reason: MarkerFault


@dataclass(frozen=True, slots=True)
class Marked:
    """What the markers of an answer come to. Statements without a marker are not in it."""

    citations: tuple[Citation, ...]
    unverified: tuple[UnverifiedMarker, ...]


def read_markers(answer: str, passages: Sequence[Passage]) -> Marked:
    """The citations of `answer`, in order of the statements, each once per statement."""
    statements = _statements(answer)
    if not statements:
        return Marked((), ())
    spans = {p.key: sentences.split(p.text) for p in passages}
    held = {
        p.key: [set(terms(p.text[span.start : span.end])) for span in spans[p.key]]
        for p in passages
    }
    weights = rarity([words for of_passage in held.values() for words in of_passage])
    citations: list[Citation] = []
    unverified: list[UnverifiedMarker] = []
    for span, numbers in statements:
        wanted = set(terms(_MARKER.sub("", answer[span.start : span.end])))
        for number in numbers:
            if not 1 <= number <= len(passages):
                unverified.append(UnverifiedMarker(number, span, "UNKNOWN_PASSAGE"))
                continue
            passage = passages[number - 1]
            shares = [coverage(wanted, words, weights) for words in held[passage.key]]
            best = max(range(len(shares)), key=shares.__getitem__, default=-1)
            if best < 0 or shares[best] < OVERLAP_MIN:
                unverified.append(UnverifiedMarker(number, span, "LOW_OVERLAP"))
            else:
                citations.append(cite(passage, spans[passage.key][best], span, shares[best]))
    return Marked(tuple(citations), tuple(unverified))


def _statements(answer: str) -> list[tuple[Span, list[int]]]:
    """Sentences that carry markers. A marker at a sentence's start belongs to the one before it.

    Markers are blanked before splitting, so that "boils. [1] Ice" is cut at the full stop.
    """
    markers = list(_MARKER.finditer(answer))
    if not markers:
        return []
    blanked = _MARKER.sub(lambda match: " " * len(match.group()), answer)
    spans = sentences.split(blanked)
    found: dict[int, list[int]] = {}
    for match in markers:
        before = [index for index, span in enumerate(spans) if span.start < match.start()]
        if not before:
            continue
        numbers = found.setdefault(before[-1], [])
        for text in _NUMBER.findall(match.group(1)):
            if int(text) not in numbers:
                numbers.append(int(text))
    return [(spans[index], numbers) for index, numbers in sorted(found.items())]
