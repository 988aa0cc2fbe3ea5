"""The seam between the service and what writes answers: a few values and one verb."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from engine.answers.evidence import Citation, Passage
from services.rpc.call import Call

Abstention: TypeAlias = Literal["", "no_passage", "low_support", "unverified"]
"""Why there is no answer; empty if there is one."""


@dataclass(frozen=True, slots=True)
class Task:
    """A question, its passages (the best first) and the caller's wishes: None for the model's
    own. `confidence_min` is for extractive answers."""

    question: str
    passages: Sequence[Passage]
    output_tokens_max: int | None = None
    temperature: float | None = None
    confidence_min: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The model has begun: what could be refused has not been."""


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Written:
    """The whole answer. Text and citations are empty where the model abstained. `cut` says that
    it stopped at the most tokens to write."""

    text: str
    citations: Sequence[Citation] = ()
    confidence: float = 0.0
    abstention: Abstention = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False


Progress: TypeAlias = Started | Delta | Citation | Written


class Backend(Protocol):
    """Something that writes answers."""

    @property
    def display_name(self) -> str:
        """For people."""
        ...

    @property
    def kind(self) -> Literal["extractive", "openai"]:
        """What runs it."""
        ...

    @property
    def upstream_model(self) -> str:
        """The name that an endpoint knows it by; empty if there is no endpoint."""
        ...

    def write(self, task: Task, call: Call) -> AsyncGenerator[Progress, None]:
        """Yields Started, then Delta and Citation as they come, and Written as the last.

        Closing the generator stops the work. Raises UpstreamFailed, DeadlineExceeded and what
        siblings raise.
        """
        ...

    async def close(self) -> None:
        """Gives everything back."""
        ...
