"""What chat asks of other services for one question, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.answers.evidence import Passage
from engine.answers.rewrite import Turn


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search found. `start` is where its text begins in the document's stored
    text, 0 without a document. `dense` is the cosine of its vector with the query's, None where
    it was found by words alone; `wire` is what has its sentences as siblings take them."""

    passage: Passage
    start: int
    dense: float | None
    wire: object


class Siblings(Protocol):
    """What chat asks of other services for one question."""

    async def search(self, collection: str, query: str) -> Sequence[Found]:
        """The passages found in a collection, the best first."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text."""
        ...

    async def history(self, session: str, question: str) -> Sequence[Turn]:
        """What was said in a session before this question, the oldest first."""
        ...

    async def rewrite(self, question: str, turns: Sequence[Turn]) -> str:
        """The question as one that stands alone, by the language model that is to answer it;
        empty where that is none, or does not answer."""
        ...

    def remaining_s(self) -> float | None:
        """Time until the caller's deadline; None without one."""
        ...
