"""What of an answer holds: its citations by the text, its sentences by their evidence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.answers.check import check
from engine.answers.evidence import Citation, cite
from engine.answers.verify import Fault, Sources, Verdict
from engine.models.sentences import split
from engine.types import Span
from services.chat.core import Context, Policy
from services.chat.siblings import Found

SENTENCES_MAX = 200
"""Sentences of an answer that are looked at; those after count as unsupported."""

_MARKER = re.compile(r"\s*[\[\u3010]\d{1,3}(?:\s*[,;]\s*\d{1,3})*[\]\u3011]")
_BEYOND: tuple[Fault, ...] = ("NO_EVIDENCE",)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer. `faults` are empty if it is supported; `citations` are numbers of
    those of the answer that it rests on. `coverage` is the share of its words in its evidence."""

    span: Span
    faults: tuple[Fault, ...]
    coverage: float
    citations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grounded:
    """An answer as it may be given. The spans of citations count in stored texts, those of
    sentences in `text`. `supported` is the share of the text, as it was written, that is supported;
    `withheld` how many sentences were taken out."""

    text: str
    citations: tuple[Citation, ...]
    sentences: tuple[Sentence, ...]
    supported: float
    withheld: int = 0


def verified(context: Context, citations: Sequence[Citation]) -> list[bool]:
    """Whether each citation's quote stands in the passage that it names. The spans count in the
    document's stored text, as in answers."""
    found = {hit.passage.key: hit for hit in context.passages}
    local = []
    for citation in citations:
        hit = found.get(citation.key)
        start = hit.start if hit else 0
        local.append(replace(citation, span=citation.span.shifted(-start)))
    holding = {id(c) for c in check(local, [hit.passage for hit in context.passages]).verified}
    return [
        id(citation) in holding
        and citation.document == found[citation.key].passage.document
        and citation.passage_index == found[citation.key].passage.passage_index
        for citation in local
    ]


async def ground(
    context: Context, text: str, citations: Sequence[Citation], policy: Policy
) -> Grounded:
    """Hold every sentence against the passages. What is quoted to the letter needs no look; for
    the rest, a thread reads the passages."""
    holds = verified(context, citations)
    kept = [citation for citation, ok in zip(citations, holds, strict=True) if ok]
    plain = without_markers(text)
    spans = split(plain)
    quoted = [_quoting(plain, span, kept) for span in spans]
    if all(quoted):
        verdicts = [Verdict((), 1.0, ())] * len(spans)
    else:
        verdicts = await asyncio.to_thread(_held, context.passages, plain, spans, kept, quoted)
    sentences: list[Sentence] = []
    for span, verdict in zip(spans, verdicts, strict=True):
        numbers = [n for n, c in enumerate(kept) if _overlap(c.answer_span, span)]
        if not numbers and not verdict.faults and verdict.evidence:
            # The model named no passage, or one that does not say it: this one does.
            numbers = [len(kept)]
            kept.append(_cited(context.passages, verdict, span))
        sentences.append(Sentence(span, verdict.faults, verdict.coverage, tuple(numbers)))
    whole = sum(span.end - span.start for span in spans)
    good = sum(s.span.end - s.span.start for s in sentences if not s.faults)
    grounded = Grounded(text, tuple(kept), tuple(sentences), good / whole if whole else 0.0)
    return _without(grounded) if policy == "withhold" else grounded


def without_markers(text: str) -> str:
    """Blanks in the place of markers such as [1], so that every character stays at its place."""
    return _MARKER.sub(lambda match: " " * len(match.group()), text)


def _held(
    passages: Sequence[Found],
    text: str,
    spans: Sequence[Span],
    citations: Sequence[Citation],
    quoted: Sequence[bool],
) -> list[Verdict]:
    """The verdict on each sentence: by the passages that it cites, and where these say nothing of
    it, by all."""
    sources = Sources([hit.passage for hit in passages])
    places = {hit.passage.key: place for place, hit in enumerate(passages)}
    verdicts: list[Verdict] = []
    for number, (span, is_quoted) in enumerate(zip(spans, quoted, strict=True)):
        if is_quoted:
            verdicts.append(Verdict((), 1.0, ()))
            continue
        if number >= SENTENCES_MAX:
            verdicts.append(Verdict(_BEYOND, 0.0, ()))
            continue
        sentence = text[span.start : span.end]
        cited = frozenset(
            places[c.key] for c in citations if _overlap(c.answer_span, span) and c.key in places
        )
        verdict = sources.check(sentence, cited) if cited else None
        if verdict is None or "NO_EVIDENCE" in verdict.faults:
            verdict = sources.check(sentence)
        verdicts.append(verdict)
    return verdicts


def _quoting(text: str, span: Span, citations: Sequence[Citation]) -> bool:
    """Whether a sentence is no more than what one of its citations quotes."""
    said = " ".join(text[span.start : span.end].split())
    return any(
        said in " ".join(citation.quote.split())
        for citation in citations
        if _overlap(citation.answer_span, span)
    )


def _cited(passages: Sequence[Found], verdict: Verdict, answer_span: Span) -> Citation:
    """The citation of the sentence that supports most."""
    source = verdict.evidence[0]
    hit = passages[source.place]
    found = cite(hit.passage, source.span, answer_span, verdict.coverage)
    return replace(found, span=source.span.shifted(hit.start))


def _without(grounded: Grounded) -> Grounded:
    """The answer without the sentences that nothing supports."""
    kept = [sentence for sentence in grounded.sentences if not sentence.faults]
    withheld = len(grounded.sentences) - len(kept)
    if not withheld:
        return grounded
    ends = [s.span.start for s in grounded.sentences[1:]] + [len(grounded.text)]
    pieces: list[str] = []
    moved: list[Sentence] = []
    citations: list[Citation] = []
    at = 0
    for sentence, end in zip(grounded.sentences, ends, strict=True):
        if sentence.faults:
            continue
        piece = grounded.text[sentence.span.start : end]
        by = at - sentence.span.start
        numbers = []
        for number in sentence.citations:
            citation = grounded.citations[number]
            numbers.append(len(citations))
            place = Span(
                max(citation.answer_span.start, sentence.span.start) + by,
                min(citation.answer_span.end, end) + by,
            )
            citations.append(replace(citation, answer_span=place))
        moved.append(replace(sentence, span=sentence.span.shifted(by), citations=tuple(numbers)))
        pieces.append(piece)
        at += len(piece)
    text = "".join(pieces).rstrip()
    return Grounded(text, tuple(citations), tuple(moved), grounded.supported, withheld)


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end
