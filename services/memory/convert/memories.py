"""Memories between the contract and the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from google.protobuf import timestamp_pb2
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.errors import InvalidField
from engine.memory.consolidating import Merge
from engine.memory.extract import Turn, normal
from engine.memory.kinds import IMPORTANCE, Kind
from engine.memory.ranking import Ranked, Weights
from services.memory.erasing import Receipt
from services.memory.recalling import Recall, Recalled
from services.rpc import names
from services.rpc.values import timestamp
from services.store.memories import Action, Memory, MemoryEvent

LIMIT_DEFAULT = 10
TEXT_CHARACTERS_MAX = 10_000
BLOCK_CHARACTERS_MAX = 32_000

_Memory = memory_pb2.Memory
_Event = memory_pb2.MemoryEvent
_Reason = pb.RecalledMemory

_KINDS: Mapping[str, memory_pb2.Memory.Kind.ValueType] = {
    Kind.FACT: _Memory.KIND_FACT,
    Kind.PREFERENCE: _Memory.KIND_PREFERENCE,
    Kind.EVENT: _Memory.KIND_EVENT,
    Kind.TASK: _Memory.KIND_TASK,
    Kind.BLOCK: _Memory.KIND_BLOCK,
}
KINDS: Mapping[int, Kind] = {number: Kind(kind) for kind, number in _KINDS.items()}
_ACTIONS: Mapping[Action, memory_pb2.MemoryEvent.Action.ValueType] = {
    "created": _Event.ACTION_CREATED,
    "updated": _Event.ACTION_UPDATED,
    "closed": _Event.ACTION_CLOSED,
    "deleted": _Event.ACTION_DELETED,
    "merged": _Event.ACTION_MERGED,
    "undone": _Event.ACTION_UNDONE,
}


def memory_id(name: str, field: str = "name") -> str:
    """The id in `memories/{id}`."""
    return names.parse(name, "memories/*", field)[0]


def memory_name(memory: str) -> str:
    """`memories/{id}`."""
    return f"memories/{memory}"


def kinds_value(kinds: Sequence[int]) -> list[str]:
    """Kinds as the store names them."""
    return sorted({str(KINDS[kind]) for kind in kinds})


def time_value(message: timestamp_pb2.Timestamp) -> datetime:
    """A time of the contract, in UTC; it is checked before."""
    return message.ToDatetime(UTC)


def new_memory(message: memory_pb2.Memory, memory: str, now: datetime) -> Memory:
    """A memory to make, with what the contract says for what is not set."""
    kind = KINDS[message.kind]
    learned_at = time_value(message.learned_at) if message.HasField("learned_at") else now
    has_from = message.HasField("valid_from")
    valid_from = time_value(message.valid_from) if has_from else learned_at
    evidence = message.evidence
    return Memory(
        id=memory,
        subject=message.subject,
        kind=kind,
        label=message.label,
        slot=normal_slot(message.slot),
        value=(normal(message.value or message.text) or message.text) if message.slot else "",
        text=message.text,
        context=message.context,
        importance=(message.importance if message.HasField("importance") else IMPORTANCE[kind]),
        valid_from=valid_from,
        valid_to=time_value(message.valid_to) if message.HasField("valid_to") else None,
        happens_at=time_value(message.happens_at) if message.HasField("happens_at") else None,
        learned_at=learned_at,
        expire_time=time_value(message.expire_time) if message.HasField("expire_time") else None,
        session=evidence.session.removeprefix("sessions/"),
        message=evidence.message_index,
        span_start=evidence.span.start,
        span_end=evidence.span.end,
        create_time=now,
        update_time=now,
    )


def normal_slot(slot: str) -> str:
    """A slot as it is compared: in lower case, by single spaces."""
    return " ".join(slot.lower().split())


def memory_message(row: Memory) -> memory_pb2.Memory:
    """A memory as the contract says it."""
    message = memory_pb2.Memory(
        name=memory_name(row.id),
        subject=row.subject,
        kind=_KINDS[row.kind],
        text=row.text,
        label=row.label,
        slot=row.slot,
        value=row.value,
        context=row.context,
        importance=row.importance,
        valid_from=timestamp(row.valid_from),
        valid_to=timestamp(row.valid_to),
        happens_at=timestamp(row.happens_at),
        learned_at=timestamp(row.learned_at),
        expire_time=timestamp(row.expire_time),
        version=row.version,
        merged_into=memory_name(row.merged_into) if row.merged_into else "",
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
    )
    if row.session or row.message or row.span_end:
        message.evidence.CopyFrom(
            memory_pb2.MemoryEvidence(
                session=f"sessions/{row.session}" if row.session else "",
                message_index=row.message,
                span=vector_pb2.TextSpan(start=row.span_start, end=row.span_end),
            )
        )
    return message


def event_message(event: MemoryEvent) -> memory_pb2.MemoryEvent:
    """A change as the contract says it."""
    return memory_pb2.MemoryEvent(
        version=event.version,
        action=_ACTIONS[event.action],
        event_time=timestamp(event.event_time),
        memory=memory_message(event.state) if event.state else None,
    )


def turn_value(turn: pb.Turn, now: datetime) -> Turn:
    """A turn as rules read it."""
    said_at = time_value(turn.said_at) if turn.HasField("said_at") else now
    return Turn(turn.text, said_at, turn.speaker)


def named(rows: Sequence[Memory]) -> list[memory_pb2.Memory]:
    """Memories by their names alone, which is all that is kept for repeated requests: so nothing
    of a memory that is erased is left there."""
    return [memory_pb2.Memory(name=memory_name(row.id)) for row in rows]


def recalled_message(ranked: Ranked, row: Memory) -> pb.RecalledMemory:
    """A memory that is recalled, and why."""
    why = ranked.reasons
    reasons = (
        (why.by_meaning, _Reason.REASON_MEANING),
        (why.by_words, _Reason.REASON_WORDS),
        (why.recent, _Reason.REASON_RECENT),
        (why.important, _Reason.REASON_IMPORTANT),
    )
    return pb.RecalledMemory(
        memory=memory_message(row),
        score=ranked.score,
        relevance=why.relevance,
        recency=why.recency,
        importance=why.importance,
        reasons=[reason for holds, reason in reasons if holds],
    )


def check_text(row: Memory, text: str) -> None:
    """Raises InvalidField for a text that a memory of this kind cannot have."""
    least, most = (0, BLOCK_CHARACTERS_MAX) if row.kind == Kind.BLOCK else (1, TEXT_CHARACTERS_MAX)
    if not least <= len(text) <= most:
        raise InvalidField(
            f"text has {len(text):,} characters, but a {row.kind} takes {least:,} to {most:,}.",
            field="text",
            metadata={"characters": len(text), "characters_max": most},
        )


def updated(row: Memory, request: pb.UpdateMemoryRequest) -> Memory:
    """A memory with what a request sets. The value of a fact whose text changes is the new text."""
    if request.HasField("text"):
        value = normal(request.text) or request.text if row.slot else ""
        row = replace(row, text=request.text, value=value)
    if request.HasField("importance"):
        row = replace(row, importance=request.importance)
    if request.HasField("valid_to"):
        row = replace(row, valid_to=time_value(request.valid_to))
    if request.HasField("expire_time"):
        row = replace(row, expire_time=time_value(request.expire_time))
    return row


def recall_value(request: pb.RecallMemoriesRequest, now: datetime) -> Recall:
    """What a request asks for, with the contract's defaults."""
    weights = Weights()
    if request.HasField("recency_weight"):
        weights = replace(weights, recency=request.recency_weight)
    if request.HasField("importance_weight"):
        weights = replace(weights, importance=request.importance_weight)
    if request.half_life_days:
        weights = replace(weights, half_life_days=request.half_life_days)
    named_time = request.HasField("as_of")
    return Recall(
        subject=request.subject,
        query=request.query,
        kinds=kinds_value(request.kinds),
        at=time_value(request.as_of) if named_time else now,
        now=not named_time,
        limit=request.limit or LIMIT_DEFAULT,
        sessions_limit=request.sessions_limit,
        min_watermark=request.min_watermark,
        weights=weights,
    )


def recalled(found: Recalled) -> pb.RecallMemoriesResponse:
    """What is remembered, as the contract says it."""
    return pb.RecallMemoriesResponse(
        memories=[recalled_message(one, found.rows[one.id]) for one in found.ranked],
        sessions=[
            pb.RecalledSession(
                session=f"sessions/{one.session}", score=one.score, memories=one.memories
            )
            for one in found.sessions
        ],
        watermark=found.watermark,
        search_ms=found.search_ms,
        rank_ms=found.rank_ms,
    )


def merge_message(merge: Merge) -> pb.MemoryMerge:
    """What stands for what."""
    return pb.MemoryMerge(kept=memory_name(merge.kept), merged=map(memory_name, merge.merged))


def receipt_message(receipt: Receipt) -> pb.ErasureReceipt:
    """What an erasure did."""
    return pb.ErasureReceipt(
        receipt_id=receipt.receipt_id,
        subject_sha256=receipt.subject_sha256,
        memories=receipt.memories,
        events=receipt.events,
        compacted_points=receipt.compacted_points,
        rows_left=receipt.rows_left,
        points_left=receipt.points_left,
        complete=receipt.complete,
        erase_time=timestamp(receipt.erase_time),
        watermark=receipt.watermark,
    )
