"""Bad requests of the memory service about what is remembered of subjects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from google.protobuf import timestamp_pb2
from google.protobuf.message import Message
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from tests.behaviour.bad_requests import INF, NAN, Bad, Table, World, identified, named, paged

ABSENT = "memories/absent"
FACT, BLOCK = memory_pb2.Memory.KIND_FACT, memory_pb2.Memory.KIND_BLOCK
OUTSIDE: Any = timestamp_pb2.Timestamp(seconds=2**61)
"""No JSON has it either."""


def _at(seconds: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=seconds)


def _subjects(make: Callable[..., Message]) -> Iterator[Bad]:
    yield Bad("no subject", make(subject=""))
    yield Bad("subject too long", make(subject="x" * 257))
    yield Bad("subject with a NUL", make(subject="a\0b"))
    yield Bad("subject of spaces", make(subject="   "))
    yield Bad("subject that ends with a space", make(subject="ada "))


def _create(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.CreateMemoryRequest:
        given = {"subject": "bad", "kind": FACT, "text": "x", **fields}
        return pb.CreateMemoryRequest(memory=memory_pb2.Memory(**given))

    def other(**fields: Any) -> pb.CreateMemoryRequest:
        request = make()
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    yield from identified(other)
    yield from _subjects(make)
    yield Bad("memory_id with capitals", other(memory_id="UPPER"))
    taken = other(memory_id=world.memory.rpartition("/")[2])
    yield Bad("id taken", taken, "MEMORY_EXISTS")
    yield Bad("no kind", make(kind=0))
    yield Bad("kind unknown", make(kind=99))
    yield Bad("no text", make(text=""))
    yield Bad("text too long", make(text="x" * 10_001))
    yield Bad("text with a NUL", make(text="a\0b"))
    yield Bad("a label", make(label="x"))
    yield Bad("a block without a label", make(kind=BLOCK))
    yield Bad("a block with a slot", make(kind=BLOCK, label="x", slot="home"))
    yield Bad("label too long", make(kind=BLOCK, label="x" * 101))
    yield Bad("slot too long", make(slot="x" * 201))
    yield Bad("value too long", make(slot="x", value="x" * 501))
    yield Bad("context too long", make(context="x" * 501))
    yield Bad("importance above 1", make(importance=1.5))
    yield Bad("importance is not a number", make(importance=NAN))
    yield Bad("an end before the beginning", make(valid_from=_at(2), valid_to=_at(1)))
    yield Bad("a time that no calendar has", make(learned_at=OUTSIDE), in_json=False)
    yield Bad("a name", make(name="memories/mine"))
    yield Bad("a version", make(version=3))
    evidence = memory_pb2.MemoryEvidence
    yield Bad("a session's name", make(evidence=evidence(session="bananas/1")))
    yield Bad("message_index below 0", make(evidence=evidence(message_index=-1)))
    span = vector_pb2.TextSpan(start=5, end=3)
    yield Bad("a span that ends early", make(evidence=evidence(span=span)))


def _remember(world: World) -> Iterator[Bad]:
    one = pb.Turn(text="I live in Berlin.")

    def make(**fields: Any) -> pb.RememberTurnsRequest:
        return pb.RememberTurnsRequest(**{"subject": "bad", "turns": [one], **fields})

    def said(**fields: Any) -> pb.RememberTurnsRequest:
        return make(turns=[one, pb.Turn(**{"text": "x", **fields})])

    yield from identified(make)
    yield from _subjects(make)
    yield Bad("session of another kind", make(session="bananas/1"))
    yield Bad("no turn", make(turns=[]))
    yield Bad("65 turns", make(turns=[one] * 65))
    yield Bad("a turn without a text", said(text=""))
    yield Bad("a turn too long", said(text="x" * 20_001))
    yield Bad("a turn with a NUL", said(text="a\0b"))
    yield Bad("speaker too long", said(speaker="x" * 101))
    yield Bad("said_to too long", said(said_to="x" * 20_001))
    yield Bad("message_index below 0", said(message_index=-1))
    yield Bad("a time that no calendar has", said(said_at=OUTSIDE), in_json=False)


def _memory(kind: type[Any], world: World) -> Iterator[Bad]:
    def make(name: str) -> Message:
        message: Message = kind(name=name)
        return message

    yield from named(make, "memories/{}")
    yield Bad("memory unknown", make(ABSENT), "MEMORY_NOT_FOUND")


def _list(world: World) -> Iterator[Bad]:
    yield from paged(pb.ListMemoriesRequest)
    unknown: Any = 99
    yield Bad("subject too long", pb.ListMemoriesRequest(subject="x" * 257))
    yield Bad("kind unknown", pb.ListMemoriesRequest(kind=unknown))


def _update(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.UpdateMemoryRequest:
        return pb.UpdateMemoryRequest(**{"name": world.memory, "text": "x", **fields})

    yield from named(lambda name: make(name=name), "memories/{}")
    yield from identified(make)
    yield Bad("memory unknown", make(name=ABSENT), "MEMORY_NOT_FOUND")
    yield Bad("nothing to change", pb.UpdateMemoryRequest(name=world.memory))
    yield Bad("version below 0", make(version=-1))
    yield Bad("version it is not at", make(version=1_000_000), "MEMORY_CHANGED")
    yield Bad("no text", make(text=""))
    yield Bad("text too long for a fact", make(text="x" * 10_001))
    yield Bad("text too long for any", make(text="x" * 32_001))
    yield Bad("text with a NUL", make(text="a\0b"))
    yield Bad("importance below 0", make(importance=-0.1))
    yield Bad("an end before the beginning", make(valid_to=_at(1)))


def _recall(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.RecallMemoriesRequest:
        return pb.RecallMemoriesRequest(**{"subject": "bad", "query": "What?", **fields})

    yield from _subjects(make)
    yield Bad("no query", make(query=""))
    yield Bad("query too long", make(query="x" * 10_001))
    yield Bad("limit below 0", make(limit=-1))
    yield Bad("limit over 100", make(limit=101))
    yield Bad("sessions_limit over 100", make(sessions_limit=101))
    yield Bad("kind unknown", make(kinds=[99]))
    yield Bad("no watermark", make(min_watermark="x"))
    yield Bad("recency_weight below 0", make(recency_weight=-1))
    yield Bad("importance_weight without end", make(importance_weight=INF))
    yield Bad("half_life_days below 0", make(half_life_days=-1))
    yield Bad("half_life_days is not a number", make(half_life_days=NAN))
    yield Bad("a time that no calendar has", make(as_of=OUTSIDE), in_json=False)


def _history(world: World) -> Iterator[Bad]:
    yield from _memory(pb.GetMemoryHistoryRequest, world)
    yield from paged(partial(pb.GetMemoryHistoryRequest, name=world.memory))


def _undo(world: World) -> Iterator[Bad]:
    make = partial(pb.UndoMemoryRequest, name=world.memory)
    yield from _memory(pb.UndoMemoryRequest, world)
    yield from identified(make)
    yield Bad("version below 0", make(version=-1))
    yield Bad("version that never was", make(version=1_000_000), "MEMORY_NOT_FOUND")


def _consolidate(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.ConsolidateMemoriesRequest:
        return pb.ConsolidateMemoriesRequest(**{"subject": "bad", **fields})

    yield from _subjects(make)
    yield Bad("budget below 0", make(budget=-1))
    yield Bad("budget over 5,000", make(budget=5_001))
    yield Bad("page_token damaged", make(page_token="AAAA"), "INVALID_PAGE_TOKEN")


def _erase(world: World) -> Iterator[Bad]:
    yield from _subjects(pb.EraseSubjectRequest)


TABLE: Table = {
    "CreateMemory": _create,
    "RememberTurns": _remember,
    "GetMemory": partial(_memory, pb.GetMemoryRequest),
    "ListMemories": _list,
    "UpdateMemory": _update,
    "DeleteMemory": partial(_memory, pb.DeleteMemoryRequest),
    "RecallMemories": _recall,
    "GetMemoryHistory": _history,
    "UndoMemory": _undo,
    "ConsolidateMemories": _consolidate,
    "EraseSubject": _erase,
}
