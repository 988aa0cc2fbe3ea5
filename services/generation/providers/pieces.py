"""What goes to an endpoint and what comes from it, whichever protocol it speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from engine.errors import UpstreamFailed
from services.generation.backend import AUTO, ChatMessage, Kind, Tool, ToolCall, ToolChoice

TOOL_CALLS_MAX = 128
"""Of one answer."""

ANSWER_CHARACTERS_MAX = 500_000
"""Where an answer is cut that an endpoint would write forever: well above 32,768 tokens. The
arguments of its tool calls are bounded by the same."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to an endpoint. `schema` is the JSON Schema of the answer, None for text."""

    messages: Sequence[ChatMessage]
    output_tokens_max: int
    temperature: float | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = AUTO
    schema: Mapping[str, Any] | None = None
    stop_sequences: Sequence[str] = ()
    seed: int | None = None
    request_id: str = ""

    def texts(self) -> list[str]:
        """Everything in it that the model reads, for counting."""
        found = [m.text for m in self.messages]
        for message in self.messages:
            found += [text for c in message.tool_calls for text in (c.id, c.name, c.arguments)]
        for tool in self.tools:
            found += [tool.name, tool.description, tool.parameters_schema]
        return found


@dataclass(frozen=True, slots=True)
class Said:
    """More of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model works on something that is not shown: a sign of life. `text` only counts."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """What the endpoint counted so far; None for what it does not say here."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why the model stopped; usage may still follow."""

    finish: Literal["stop", "length", "tool_calls", "filtered"]


Piece: TypeAlias = Said | Thinking | ToolCall | Used | Stopped


class EndpointFailed(UpstreamFailed):
    """An endpoint failed. `passing` says that another try, or another endpoint, may do better;
    `broken` that it counts for the breaker. Its message tells nothing of what the endpoint said:
    that may hold keys or texts."""

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str | int | float],
        retry_after_s: float | None = None,
        passing: bool = True,
        broken: bool = True,
    ) -> None:
        super().__init__(message, metadata=metadata, retry_after_s=retry_after_s)
        self.passing = passing
        self.broken = broken


class Provider(Protocol):
    """An endpoint and its protocol."""

    @property
    def kind(self) -> Kind:
        """Which protocol."""
        ...

    @property
    def instructs_schema(self) -> bool:
        """Whether the schema of an answer has to stand in the prompt."""
        ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The pieces of one answer. Ends after a Stopped; closing it closes the request. Raises
        EndpointFailed."""
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...
