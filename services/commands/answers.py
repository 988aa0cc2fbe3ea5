"""An answer, from gRPC or from REST, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragmesh import Answer
    from rich.console import Console

_QUOTE_CHARACTERS_MAX = 240


@dataclass(frozen=True, slots=True)
class ShownCitation:
    """A citation; `span` is [start, end) in characters of the document's stored text."""

    document: str
    passage: int
    span: tuple[int, int]
    quote: str
    score: float


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer; `abstention` is empty where there is one. Timings by stage, milliseconds."""

    question: str
    answer: str
    citations: tuple[ShownCitation, ...]
    confidence: float
    abstention: str
    timings: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def from_answer(answer: Answer) -> ShownAnswer:
    """An answer that came over gRPC."""
    return ShownAnswer(
        question=answer.question,
        answer=answer.text,
        citations=tuple(
            ShownCitation(c.document, c.passage_index, (c.span.start, c.span.end), c.quote, c.score)
            for c in answer.citations
        ),
        confidence=round(answer.confidence, 4),
        abstention=answer.abstention_reason or "",
        timings={name: round(ms, 3) for name, ms in asdict(answer.timings).items()},
    )


def from_json(answer: Mapping[str, Any]) -> ShownAnswer:
    """An answer that came over REST, where zeros and empty texts are left out."""
    timings = answer.get("timings", {})
    stages = ("search", "context", "generate", "check", "total")
    reason = str(answer.get("abstentionReason", ""))
    return ShownAnswer(
        question=str(answer.get("question", "")),
        answer=str(answer.get("text", "")),
        citations=tuple(_citation(one) for one in answer.get("citations", ())),
        confidence=round(float(answer.get("confidence", 0)), 4),
        abstention=reason.removeprefix("ABSTENTION_REASON_").lower().removeprefix("unspecified"),
        timings={f"{s}_ms": round(float(timings.get(f"{s}Ms", 0)), 3) for s in stages},
    )


def _citation(one: Mapping[str, Any]) -> ShownCitation:
    span = one.get("span", {})
    return ShownCitation(
        document=str(one.get("document", "")),
        passage=int(one.get("passageIndex", 0)),
        span=(int(span.get("start", 0)), int(span.get("end", 0))),
        quote=str(one.get("quote", "")),
        score=round(float(one.get("score", 0)), 4),
    )


def print_answer(console: Console, shown: ShownAnswer, note: str = "") -> None:
    """The answer with its citations, and where the time went."""
    from rich.text import Text

    if shown.abstention:
        reason = shown.abstention.replace("_", " ")
        console.print(
            Text(f"No answer: nothing in the collection supports one ({reason}).", "yellow")
        )
    else:
        console.print(Text(shown.answer))
    for number, citation in enumerate(shown.citations, start=1):
        place = citation.document.rpartition("/")[2]
        start, end = citation.span
        head = f"  [{number}] {place} · passage {citation.passage} · characters {start} to {end}"
        console.print(Text(head, "cyan"))
        quote = " ".join(citation.quote.split())
        if len(quote) > _QUOTE_CHARACTERS_MAX:
            quote = quote[: _QUOTE_CHARACTERS_MAX - 1] + "…"
        console.print(Text(f"      “{quote}”", "dim"))
    stages = " · ".join(
        f"{name.removesuffix('_ms')} {ms:.1f}" for name, ms in shown.timings.items()
    )
    console.print(Text(f"  confidence {shown.confidence:.2f} · {stages} ms{note}", "dim"))
