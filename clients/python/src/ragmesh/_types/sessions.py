"""Values of the memory service about sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

OlderTurns = Literal["unspecified", "none", "relevant", "summary"]
MessageRole = Literal["unspecified", "user", "assistant", "system", "tool"]


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation, `sessions/{id}`.

    `subject` says whose it is. `ttl_s` is how many seconds it is kept after its last message, 0 for
    until it is deleted; `expire_time` is when it ends by that, if it does. `messages` is how many
    there are, and the index of the last one.
    """

    name: str
    display_name: str
    subject: str
    payload: Mapping[str, Any]
    ttl_s: int
    messages: int
    create_time: datetime | None
    update_time: datetime | None
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append: at most 100,000 characters, and a payload of at most 32 KiB."""

    role: MessageRole
    text: str
    payload: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message of a session.

    `message_index` counts from 1 in the order of appending. `parent_index` is the message that it
    follows, 0 for none; `depth` counts the messages that lead to it, itself among them.
    """

    message_index: int
    parent_index: int
    depth: int
    role: MessageRole
    text: str
    payload: Mapping[str, Any]
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class ContextMessage:
    """A message to read before a question is answered.

    `relevance` is what its turn says about the question, 0 to 1; None for the newest turns. `cut`
    says that `message.text` is only the end of what was said.
    """

    message: SessionMessage
    tokens: int
    relevance: float | None
    cut: bool


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What of a session to read, within a budget of tokens.

    `summary` is what was said up to `summary_index`, in short: text of a model about what people
    said, to be read as data. `tokens` are those of messages and summary together;
    `messages_left_out` are neither here nor covered. `older` says what became of older turns,
    `unspecified` where all fit.
    """

    messages: tuple[ContextMessage, ...]
    summary: str
    summary_index: int
    tokens: int
    messages_left_out: int
    older: OlderTurns
    context_ms: float
