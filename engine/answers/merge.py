"""The answer to a question of several parts: that to each of them, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.answers import extractive
from engine.answers.evidence import Answer, Citation, Passage
from engine.types import Span, Vector


def answer(
    questions: Sequence[str],
    vectors: Sequence[Vector],
    passages: Sequence[Passage],
    *,
    sentences_max: int = 3,
    settings: extractive.Settings | None = None,
) -> Answer:
    """At most `sentences_max` sentences for each of the `questions`, with their `vectors`.

    A part that nothing answers adds nothing, and counts 0 in the confidence, which is the mean.
    Where none is answered, there is no answer. A sentence that answers two parts is given once.
    Raises as `extractive.answer` does.
    """
    found = [
        extractive.answer(one, vector, passages, sentences_max=sentences_max, settings=settings)
        for one, vector in zip(questions, vectors, strict=True)
    ]
    if len(found) == 1:
        return found[0]
    answered = [one for one in found if one.text]
    if not answered:
        return max(found, key=lambda one: one.confidence)
    pieces: list[str] = []
    citations: list[Citation] = []
    given: set[tuple[tuple[str, str], Span]] = set()
    at = 0
    for one in answered:
        for citation in one.citations:
            if (citation.key, citation.span) in given:
                continue
            given.add((citation.key, citation.span))
            piece = one.text[citation.answer_span.start : citation.answer_span.end]
            place = Span(at, at + len(piece))
            citations.append(replace(citation, answer_span=place))
            pieces.append(piece)
            at = place.end + 1
    confidence = sum(one.confidence for one in answered) / len(found)
    return Answer(" ".join(pieces), tuple(citations), confidence)
