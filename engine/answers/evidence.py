"""The values of this room: passages that go in, citations and answers that come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.types import Sentences, Span

AbstentionReason: TypeAlias = Literal["", "NO_PASSAGE", "LOW_SUPPORT"]
"""Why there is no answer: nothing was found, or what was found does not support one."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that a search found, best first in every sequence of passages.

    `score` is the search's, higher for better, in any unit. `sentences` are those of `text` with
    their vectors, None where there are none. `tokens` is the length that counts for a budget.
    `document` may be empty for a point that a caller wrote; `point_id` never is.
    """

    collection: str
    point_id: str
    document: str
    passage_index: int
    text: str
    score: float
    sentences: Sentences | None = None
    tokens: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What makes a passage one of its kind."""
        return self.collection, self.point_id


@dataclass(frozen=True, slots=True)
class Citation:
    """A promise that `quote` is `passage.text[span.start:span.end]`, letter by letter.

    `answer_span` is the part of the answer that rests on it. `score` is from 0 to 1.
    """

    collection: str
    point_id: str
    document: str
    passage_index: int
    span: Span
    quote: str
    answer_span: Span
    score: float

    @property
    def key(self) -> tuple[str, str]:
        """The key of the passage that it quotes."""
        return self.collection, self.point_id


def cite(passage: Passage, span: Span, answer_span: Span, score: float) -> Citation:
    """The citation of `passage.text[span.start:span.end]`."""
    return Citation(
        passage.collection,
        passage.point_id,
        passage.document,
        passage.passage_index,
        span,
        passage.text[span.start : span.end],
        answer_span,
        min(max(score, 0.0), 1.0),
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is empty and `reason` is not where there is no answer. `confidence` is 0 to 1."""

    text: str
    citations: tuple[Citation, ...]
    confidence: float
    reason: AbstentionReason = ""
