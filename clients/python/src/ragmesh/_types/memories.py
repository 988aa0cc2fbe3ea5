"""Values of the memory service about what is remembered of subjects."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ragmesh._types.embedding import TextSpan

MemoryKind = Literal["unspecified", "fact", "preference", "event", "task", "block"]
MemoryAction = Literal["unspecified", "created", "updated", "closed", "deleted", "merged", "undone"]
RecallReason = Literal["unspecified", "meaning", "words", "recent", "important"]


@dataclass(frozen=True, slots=True)
class MemoryEvidence:
    """Where something was said: `sessions/{id}` or empty, the message's index or 0, and the
    characters of the message."""

    session: str = ""
    message_index: int = 0
    span: TextSpan = field(default_factory=lambda: TextSpan(0, 0))


@dataclass(frozen=True, slots=True)
class Memory:
    """Something that is remembered of a subject, `memories/{id}`.

    It holds from `valid_from` until `valid_to`, None as long as it holds. Facts of one `slot` hold
    one after the other. `learned_at` is when it was said, `happens_at` the day of an event or a
    task, and `expire_time` when it is forgotten. `version` counts its changes; `merged_into` names
    the memory that stands for it since a consolidation.
    """

    name: str
    subject: str
    kind: MemoryKind
    text: str
    label: str
    slot: str
    value: str
    context: str
    importance: float
    valid_from: datetime | None
    valid_to: datetime | None
    happens_at: datetime | None
    learned_at: datetime | None
    expire_time: datetime | None
    evidence: MemoryEvidence | None
    version: int
    merged_into: str
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class RememberedMemory:
    """A memory that was made, or with `known` the one that says the same; `closed` names facts that
    it closed."""

    memory: Memory
    known: bool
    closed: tuple[str, ...]
    watermark: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that somebody said; `said_at` is now if None. `said_to` is what it answers, if that
    is not the turn before it in the call or the session."""

    text: str
    speaker: str = ""
    said_at: datetime | None = None
    message_index: int = 0
    said_to: str = ""


@dataclass(frozen=True, slots=True)
class RememberedTurns:
    """The memories that were made of turns, how many were known, and which facts were closed."""

    memories: tuple[Memory, ...]
    known: int
    closed: tuple[str, ...]
    watermark: str


@dataclass(frozen=True, slots=True)
class RecalledMemory:
    """A memory that is recalled. The `score` is made of `relevance`, `recency` and `importance`,
    each 0 to 1; `reasons` says which of them speak for it."""

    memory: Memory
    score: float
    relevance: float
    recency: float
    importance: float
    reasons: tuple[RecallReason, ...]


@dataclass(frozen=True, slots=True)
class RecalledSession:
    """A session in which something like it was said, and how many of the candidates are of it."""

    session: str
    score: float
    memories: int


@dataclass(frozen=True, slots=True)
class RecallResult:
    """What is remembered, the best first; the sessions if they were asked for."""

    memories: tuple[RecalledMemory, ...]
    sessions: tuple[RecalledSession, ...]
    watermark: str
    search_ms: float
    rank_ms: float


@dataclass(frozen=True, slots=True)
class MemoryEvent:
    """A change, and what the memory was since; None where it was gone."""

    version: int
    action: MemoryAction
    event_time: datetime | None
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class MemoryMerge:
    """`memories/{id}` that stands for others, and those."""

    kept: str
    merged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What was consolidated of so many memories. `next_page_token` leads to those after them."""

    merges: tuple[MemoryMerge, ...]
    memories: int
    next_page_token: str
    watermark: str


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure removed, and what it found when it looked again: `complete` if nothing."""

    receipt_id: str
    subject_sha256: str
    memories: int
    events: int
    compacted_points: int
    rows_left: int
    points_left: int
    complete: bool
    erase_time: datetime | None
    watermark: str
