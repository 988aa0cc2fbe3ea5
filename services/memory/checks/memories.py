"""Requests about memories."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf import timestamp_pb2
from google.protobuf.message import Message
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.errors import InvalidField
from engine.memory.consolidating import MEMORIES_MAX
from services.memory.convert.memories import BLOCK_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from services.rpc import fields, names, paging
from services.rpc.chain import Check

SUBJECT_CHARACTERS_MAX = 256
LABEL_CHARACTERS_MAX = 100
SLOT_CHARACTERS_MAX = 200
VALUE_CHARACTERS_MAX = 500
CONTEXT_CHARACTERS_MAX = 500
SPEAKER_CHARACTERS_MAX = 100
TURN_CHARACTERS_MAX = 20_000
TURNS_MAX = 64
QUERY_CHARACTERS_MAX = 10_000
RECALLED_MAX = 100
WEIGHT_MAX = 10.0
HALF_LIFE_DAYS_MAX = 36_500.0
KINDS_MAX = 5
INDEX_MAX = 2**31 - 1
VERSION_MAX = 2**62

_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999."""

_GIVEN_BY_US = ("name", "version", "merged_into", "create_time", "update_time")
_TIMES = ("valid_from", "valid_to", "happens_at", "learned_at", "expire_time")


def _text(value: str, field: str, most: int, least: int = 0) -> None:
    fields.characters(value, field, most, least)
    fields.storable(value, field)


def _subject(value: str, field: str = "subject") -> None:
    fields.required(value, field)
    _text(value, field, SUBJECT_CHARACTERS_MAX)
    if value != value.strip():
        raise InvalidField(
            f"{field} is {value!r}, which begins or ends with white space: so that nobody is "
            "remembered as two, or erased as one of them, leave that out.",
            field=field,
            metadata={"field": field},
        )


def _time(value: timestamp_pb2.Timestamp, field: str) -> None:
    fields.number(value.seconds, f"{field}.seconds", _SECONDS_MIN, _SECONDS_MAX)
    fields.number(value.nanos, f"{field}.nanos", 0, 999_999_999)


def _kinds(kinds: list[int]) -> None:
    fields.items(kinds, "kinds", KINDS_MAX, 0)
    for index, kind in enumerate(kinds):
        _kind(kind, f"kinds[{index}]")


def _kind(kind: int, field: str) -> None:
    if kind not in memory_pb2.Memory.Kind.values() or kind == memory_pb2.Memory.KIND_UNSPECIFIED:
        raise InvalidField(
            f"{field} is {kind}, but memories are facts, preferences, events, tasks and blocks.",
            field=field,
            metadata={"field": field, "value": kind},
        )


def _memory(memory: memory_pb2.Memory) -> None:
    given = {descriptor.name for descriptor, _ in memory.ListFields()}
    for name in _GIVEN_BY_US:
        if name in given:
            raise InvalidField(
                f"memory.{name} is set, but the server says what it is. Leave it out.",
                field=f"memory.{name}",
            )
    _subject(memory.subject, "memory.subject")
    _kind(memory.kind, "memory.kind")
    block = memory.kind == memory_pb2.Memory.KIND_BLOCK
    most, least = (BLOCK_CHARACTERS_MAX, 0) if block else (TEXT_CHARACTERS_MAX, 1)
    _text(memory.text, "memory.text", most, least)
    _text(memory.label, "memory.label", LABEL_CHARACTERS_MAX)
    if block != bool(memory.label):
        raise InvalidField(
            "memory.label is what a block is found by: every block has one, and nothing else does.",
            field="memory.label",
        )
    if block and memory.slot:
        raise InvalidField(
            "memory.slot is set, but a block has none. Leave it out.", field="memory.slot"
        )
    _text(memory.slot, "memory.slot", SLOT_CHARACTERS_MAX)
    _text(memory.value, "memory.value", VALUE_CHARACTERS_MAX)
    _text(memory.context, "memory.context", CONTEXT_CHARACTERS_MAX)
    if memory.HasField("importance"):
        fields.number(memory.importance, "memory.importance", 0.0, 1.0)
    for name in _TIMES:
        if name in given:
            _time(getattr(memory, name), f"memory.{name}")
    if {"valid_from", "valid_to"} <= given:
        begins, ends = memory.valid_from, memory.valid_to
        if (begins.seconds, begins.nanos) >= (ends.seconds, ends.nanos):
            raise InvalidField(
                "memory.valid_to is not later than memory.valid_from. Give when it ended.",
                field="memory.valid_to",
            )
    _evidence(memory.evidence)


def _evidence(evidence: memory_pb2.MemoryEvidence) -> None:
    if evidence.session:
        names.parse(evidence.session, "sessions/*", "memory.evidence.session")
    fields.number(evidence.message_index, "memory.evidence.message_index", 0, INDEX_MAX)
    start, end = evidence.span.start, evidence.span.end
    if not 0 <= start <= end:
        raise InvalidField(
            f"memory.evidence.span is {start} to {end}, but ends where it begins or later.",
            field="memory.evidence.span",
            metadata={"start": start, "end": end},
        )


def _create(request: pb.CreateMemoryRequest) -> None:
    fields.request_id(request.request_id)
    if request.memory_id:
        names.check_id(request.memory_id, "memory_id")
    _memory(request.memory)


def _remember(request: pb.RememberTurnsRequest) -> None:
    fields.request_id(request.request_id)
    _subject(request.subject)
    if request.session:
        names.parse(request.session, "sessions/*", "session")
    fields.items(request.turns, "turns", TURNS_MAX)
    for index, turn in enumerate(request.turns):
        at = f"turns[{index}]"
        _text(turn.speaker, f"{at}.speaker", SPEAKER_CHARACTERS_MAX)
        _text(turn.text, f"{at}.text", TURN_CHARACTERS_MAX, 1)
        _text(turn.said_to, f"{at}.said_to", TURN_CHARACTERS_MAX)
        fields.number(turn.message_index, f"{at}.message_index", 0, INDEX_MAX)
        if turn.HasField("said_at"):
            _time(turn.said_at, f"{at}.said_at")


def _named(
    request: pb.GetMemoryRequest | pb.DeleteMemoryRequest,
) -> None:
    names.parse(request.name, "memories/*", "name")


def _list(request: pb.ListMemoriesRequest) -> None:
    paging.page_size(request.page_size)
    _text(request.subject, "subject", SUBJECT_CHARACTERS_MAX)
    fields.enum(request, "kind")


def _update(request: pb.UpdateMemoryRequest) -> None:
    names.parse(request.name, "memories/*", "name")
    fields.request_id(request.request_id)
    fields.number(request.version, "version", 0, VERSION_MAX)
    changes = ("text", "importance", "valid_to", "expire_time")
    if not any(request.HasField(name) for name in changes):  # type: ignore[arg-type]
        raise InvalidField(
            f"Nothing is to be changed. Set one of {', '.join(changes)}.", field="text"
        )
    if request.HasField("text"):
        _text(request.text, "text", BLOCK_CHARACTERS_MAX)
    if request.HasField("importance"):
        fields.number(request.importance, "importance", 0.0, 1.0)
    for name in ("valid_to", "expire_time"):
        if request.HasField(name):
            _time(getattr(request, name), name)


def _recall(request: pb.RecallMemoriesRequest) -> None:
    _subject(request.subject)
    fields.required(request.query, "query")
    fields.characters(request.query, "query", QUERY_CHARACTERS_MAX)
    fields.number(request.limit, "limit", 0, RECALLED_MAX)
    fields.number(request.sessions_limit, "sessions_limit", 0, RECALLED_MAX)
    _kinds(list(request.kinds))
    fields.watermark(request.min_watermark)
    if request.HasField("as_of"):
        _time(request.as_of, "as_of")
    for name in ("recency_weight", "importance_weight"):
        fields.number(getattr(request, name), name, 0.0, WEIGHT_MAX)
    fields.number(request.half_life_days, "half_life_days", 0.0, HALF_LIFE_DAYS_MAX)


def _history(request: pb.GetMemoryHistoryRequest) -> None:
    names.parse(request.name, "memories/*", "name")
    paging.page_size(request.page_size)


def _undo(request: pb.UndoMemoryRequest) -> None:
    names.parse(request.name, "memories/*", "name")
    fields.request_id(request.request_id)
    fields.number(request.version, "version", 0, VERSION_MAX)


def _consolidate(request: pb.ConsolidateMemoriesRequest) -> None:
    _subject(request.subject)
    fields.number(request.budget, "budget", 0, MEMORIES_MAX)


def _erase(request: pb.EraseSubjectRequest) -> None:
    _subject(request.subject)


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.CreateMemoryRequest: _create,
        pb.RememberTurnsRequest: _remember,
        pb.GetMemoryRequest: _named,
        pb.ListMemoriesRequest: _list,
        pb.UpdateMemoryRequest: _update,
        pb.DeleteMemoryRequest: _named,
        pb.RecallMemoriesRequest: _recall,
        pb.GetMemoryHistoryRequest: _history,
        pb.UndoMemoryRequest: _undo,
        pb.ConsolidateMemoriesRequest: _consolidate,
        pb.EraseSubjectRequest: _erase,
    }
)
