"""Checking citations: a quote that is not in its passage at its place is no citation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.answers.evidence import Citation, Passage

RejectionReason: TypeAlias = Literal["UNKNOWN_PASSAGE", "SPAN_OUTSIDE", "QUOTE_DIFFERS"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A citation that does not hold, and why."""

    citation: Citation
    reason: RejectionReason


@dataclass(frozen=True, slots=True)
class Checked:
    """Citations that hold, in order, and those that do not."""

    verified: tuple[Citation, ...]
    rejected: tuple[Rejected, ...]


def check(citations: Iterable[Citation], passages: Iterable[Passage]) -> Checked:
    """Compare each quote with the text of its passage at its span, code point by code point."""
    texts = {passage.key: passage.text for passage in passages}
    verified: list[Citation] = []
    rejected: list[Rejected] = []
    for citation in citations:
        reason = _fault(citation, texts.get(citation.key))
        if reason is None:
            verified.append(citation)
        else:
            rejected.append(Rejected(citation, reason))
    return Checked(tuple(verified), tuple(rejected))


def _fault(citation: Citation, text: str | None) -> RejectionReason | None:
    if text is None:
        return "UNKNOWN_PASSAGE"
    start, end = citation.span.start, citation.span.end
    if not 0 <= start < end <= len(text):
        return "SPAN_OUTSIDE"
    return None if text[start:end] == citation.quote else "QUOTE_DIFFERS"
