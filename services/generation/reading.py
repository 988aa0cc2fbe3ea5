"""What is made of the pieces of an answer: text that may be shown, and the whole at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from engine.answers.evidence import Citation
from engine.types import Span
from services.generation.backend import Delta, Finish, Progress, Task, ToolCall, Written
from services.generation.prompt import NO_ANSWER, may_abstain
from services.generation.providers.pieces import ANSWER_CHARACTERS_MAX, Piece, Said, Stopped


@dataclass(slots=True)
class Reading:
    """What came so far. `holds` keeps all of the text back until it was looked at as a whole;
    `closed` says that no more is read."""

    task: Task
    holds: bool = False
    text: str = ""
    finish: Finish = "stop"
    tool_calls: list[ToolCall] = field(default_factory=list)
    closed: bool = False
    _held: str = ""

    def take(self, piece: Piece) -> Iterator[Progress]:
        """Reads one piece; what may be shown of it."""
        match piece:
            case Said(text):
                yield from self._said(text)
            case ToolCall():
                self.tool_calls.append(piece)
                yield piece
            case Stopped(finish):
                self.finish = finish
            case _:
                return

    def cut(self, finish: Finish) -> None:
        """Stops reading."""
        self.closed, self.finish = True, finish

    @property
    def abstained(self) -> bool:
        """Whether the model said that there is no answer."""
        if self.tool_calls or not may_abstain(self.task):
            return False
        return self.text.strip().startswith(NO_ANSWER) or not self.text.strip()

    def _said(self, piece: str) -> Iterator[Progress]:
        room = ANSWER_CHARACTERS_MAX - len(self.text)
        if len(piece) > room:
            self.cut("length")
        self.text += piece[:room]
        self._held += piece[:room]
        # A text that may yet turn out to be NO_ANSWER is not shown before that is known.
        undecided = may_abstain(self.task) and NO_ANSWER.startswith(
            self.text.strip()[: len(NO_ANSWER)]
        )
        if self.holds or undecided or not self._held:
            return
        shown, self._held = self._held, ""
        yield Delta(shown)

    def ending(self, citations: Sequence[Citation]) -> Iterator[Progress]:
        """What is left to say when the endpoint is done; Written without its usage."""
        task = self.task
        if self.abstained:
            yield Written("", (), 0.0, "low_support" if task.passages else "no_passage")
            return
        if self._held:
            yield Delta(self._held)
        cites = task.passages and not task.output_schema and not self.tool_calls
        if cites and not citations:
            yield Written("", (), 0.0, "unverified", finish=self.finish)
            return
        yield from citations
        yield Written(
            self.text,
            citations,
            _confidence(self.text, citations),
            cut=self.finish in ("length", "budget"),
            tool_calls=tuple(self.tool_calls),
            finish=self.finish,
        )


def _confidence(text: str, citations: Sequence[Citation]) -> float:
    """The mean over the answer's characters of the best score among the citations of the
    statement they are in; 0 for those of statements without one."""
    best: dict[Span, float] = {}
    for citation in citations:
        best[citation.answer_span] = max(best.get(citation.answer_span, 0.0), citation.score)
    if not text:
        return 0.0
    return min(1.0, sum((s.end - s.start) * score for s, score in best.items()) / len(text))
