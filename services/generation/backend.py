"""The seam between the service and what writes answers: a few values and one verb."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from engine.answers.evidence import Citation, Passage
from services.rpc.call import Call

Abstention: TypeAlias = Literal["", "no_passage", "low_support", "unverified"]
"""Why there is no answer; empty if there is one."""

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "budget", "filtered"]
"""Why a model stopped."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Kind: TypeAlias = Literal["extractive", "openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants to have called; `arguments` are JSON as it wrote them."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call; `parameters_schema` is a JSON Schema, empty for none."""

    name: str
    description: str
    parameters_schema: str


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are called; with `required`, `tool` may name the one."""

    mode: Literal["auto", "none", "required"] = "auto"
    tool: str = ""


AUTO = ToolChoice()


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a chat. `tool_calls` are an assistant's, `tool_call_id` a tool's."""

    role: Role
    text: str
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A question, its passages (the best first) and the caller's wishes: None for the model's
    own. Where `messages` ask, the question is the last one of the user's. Only language models
    read what comes after the temperature; `confidence_min` is for extractive answers."""

    question: str
    passages: Sequence[Passage]
    output_tokens_max: int | None = None
    temperature: float | None = None
    messages: Sequence[ChatMessage] = ()
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = AUTO
    output_schema: str = ""
    stop_sequences: Sequence[str] = ()
    seed: int | None = None
    session: str = ""
    confidence_min: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer cost, by which prices."""

    nanos: int
    currency: str
    price_version: str


@dataclass(frozen=True, slots=True)
class Started:
    """The model has begun: what could be refused has not been. `model_id` is empty where it is
    the one that was asked for."""

    model_id: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Written:
    """The whole answer. Text and citations are empty where the model abstained. `cut` says that
    it stopped at the most tokens to write. `estimated` tokens are ours, not the endpoint's;
    `cost` is None for a model without a price."""

    text: str
    citations: Sequence[Citation] = ()
    confidence: float = 0.0
    abstention: Abstention = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False
    tool_calls: Sequence[ToolCall] = ()
    finish: Finish = "stop"
    model_id: str = ""
    cached_input_tokens: int = 0
    estimated: bool = False
    cost: Cost | None = None


Progress: TypeAlias = Started | Delta | Citation | ToolCall | Written


class Backend(Protocol):
    """Something that writes answers."""

    @property
    def display_name(self) -> str:
        """For people."""
        ...

    @property
    def kind(self) -> Kind:
        """What runs it."""
        ...

    @property
    def upstream_model(self) -> str:
        """The name that an endpoint knows it by; empty if there is no endpoint."""
        ...

    @property
    def fallbacks(self) -> Sequence[str]:
        """Ids of the models that are asked, in this order, where it cannot begin."""
        ...

    def write(self, task: Task, call: Call) -> AsyncGenerator[Progress, None]:
        """Yields Started, then Delta, Citation and ToolCall as they come, and Written as the last.

        Closing the generator stops the work. Raises UpstreamFailed, DeadlineExceeded and what
        siblings raise.
        """
        ...

    async def close(self) -> None:
        """Gives everything back."""
        ...
