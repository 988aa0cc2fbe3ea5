"""Messages of the memory service about what is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from google.protobuf import timestamp_pb2

from ragmesh._names import refuse
from ragmesh._types import memories as types
from ragmesh._types.embedding import TextSpan
from ragmesh._values import from_enum, from_time, to_enum
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

_KIND = memory_pb2.Memory.Kind.DESCRIPTOR
_ACTION = memory_pb2.MemoryEvent.Action.DESCRIPTOR
_REASON = pb.RecalledMemory.Reason.DESCRIPTOR


def to_time(value: datetime | None, field: str) -> timestamp_pb2.Timestamp | None:
    """A time of the contract; raises InvalidField for one without an offset."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise refuse(field, f"is {value.isoformat()}, without an offset; give an aware time.")
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(value)
    return message


def to_kind(kind: str, field: str = "kind") -> memory_pb2.Memory.Kind.ValueType:
    """A kind's number; raises InvalidField for an unknown one."""
    return cast(memory_pb2.Memory.Kind.ValueType, to_enum(_KIND, kind, field))


def to_kinds(kinds: Sequence[str]) -> list[memory_pb2.Memory.Kind.ValueType]:
    """Numbers of kinds."""
    if isinstance(kinds, str):
        raise refuse("kinds", "is one text; give a list.")
    return [to_kind(kind, "kinds") for kind in kinds]


def to_evidence(given: types.MemoryEvidence | None) -> memory_pb2.MemoryEvidence | None:
    """Where something was said."""
    if given is None:
        return None
    return memory_pb2.MemoryEvidence(
        session=given.session,
        message_index=given.message_index,
        span=vector_pb2.TextSpan(start=given.span.start, end=given.span.end),
    )


def to_turn(given: types.Turn) -> pb.Turn:
    """A turn to remember."""
    return pb.Turn(
        speaker=given.speaker,
        text=given.text,
        said_at=to_time(given.said_at, "said_at"),
        message_index=given.message_index,
        said_to=given.said_to,
    )


def memory(message: memory_pb2.Memory) -> types.Memory:
    return types.Memory(
        name=message.name,
        subject=message.subject,
        kind=cast(types.MemoryKind, from_enum(_KIND, message.kind)),
        text=message.text,
        label=message.label,
        slot=message.slot,
        value=message.value,
        context=message.context,
        importance=message.importance,
        valid_from=from_time(message.valid_from),
        valid_to=from_time(message.valid_to),
        happens_at=from_time(message.happens_at),
        learned_at=from_time(message.learned_at),
        expire_time=from_time(message.expire_time),
        evidence=_evidence(message.evidence) if message.HasField("evidence") else None,
        version=message.version,
        merged_into=message.merged_into,
        create_time=from_time(message.create_time),
        update_time=from_time(message.update_time),
    )


def _evidence(message: memory_pb2.MemoryEvidence) -> types.MemoryEvidence:
    span = TextSpan(message.span.start, message.span.end)
    return types.MemoryEvidence(message.session, message.message_index, span)


def recalled(message: pb.RecallMemoriesResponse) -> types.RecallResult:
    return types.RecallResult(
        memories=tuple(map(_recalled, message.memories)),
        sessions=tuple(
            types.RecalledSession(one.session, one.score, one.memories) for one in message.sessions
        ),
        watermark=message.watermark,
        search_ms=message.search_ms,
        rank_ms=message.rank_ms,
    )


def _recalled(message: pb.RecalledMemory) -> types.RecalledMemory:
    return types.RecalledMemory(
        memory=memory(message.memory),
        score=message.score,
        relevance=message.relevance,
        recency=message.recency,
        importance=message.importance,
        reasons=tuple(cast(types.RecallReason, from_enum(_REASON, one)) for one in message.reasons),
    )


def event(message: memory_pb2.MemoryEvent) -> types.MemoryEvent:
    return types.MemoryEvent(
        version=message.version,
        action=cast(types.MemoryAction, from_enum(_ACTION, message.action)),
        event_time=from_time(message.event_time),
        memory=memory(message.memory) if message.HasField("memory") else None,
    )


def consolidation(message: pb.ConsolidateMemoriesResponse) -> types.Consolidation:
    return types.Consolidation(
        merges=tuple(types.MemoryMerge(one.kept, tuple(one.merged)) for one in message.merges),
        memories=message.memories,
        next_page_token=message.next_page_token,
        watermark=message.watermark,
    )


def receipt(message: pb.ErasureReceipt) -> types.ErasureReceipt:
    return types.ErasureReceipt(
        receipt_id=message.receipt_id,
        subject_sha256=message.subject_sha256,
        memories=message.memories,
        events=message.events,
        compacted_points=message.compacted_points,
        rows_left=message.rows_left,
        points_left=message.points_left,
        complete=message.complete,
        erase_time=from_time(message.erase_time),
        watermark=message.watermark,
    )
