"""Bad requests of the memory service about sessions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.message import Message
from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from tests.behaviour.bad_requests import Bad, Table, World, identified, named, paged

ABSENT = "sessions/absent"
USER = session_pb2.SessionMessage.ROLE_USER


def _large() -> struct_pb2.Struct:
    large = struct_pb2.Struct()
    large.update({"x": "y" * 33_000})
    return large


def _create(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.CreateSessionRequest:
        return pb.CreateSessionRequest(session=session_pb2.Session(**fields))

    yield from identified(pb.CreateSessionRequest)
    yield Bad("session_id with capitals", pb.CreateSessionRequest(session_id="UPPER"))
    taken = pb.CreateSessionRequest(session_id=world.session.rpartition("/")[2])
    yield Bad("id taken", taken, "SESSION_EXISTS")
    yield Bad("display_name too long", make(display_name="x" * 501))
    yield Bad("display_name with a NUL", make(display_name="a\0b"))
    yield Bad("subject too long", make(subject="x" * 257))
    yield Bad("subject with a NUL", make(subject="a\0b"))
    yield Bad("payload too large", make(payload=_large()))
    yield Bad("ttl_s below 0", make(ttl_s=-1))
    yield Bad("ttl_s over ten years", make(ttl_s=315_360_001))
    yield Bad("a name", make(name="sessions/mine"))
    yield Bad("a number of messages", make(messages=3))
    yield Bad("an end", make(expire_time=timestamp_pb2.Timestamp(seconds=1)))


def _session(kind: type[Any], field: str, world: World) -> Iterator[Bad]:
    def make(name: str) -> Message:
        message: Message = kind(**{field: name})
        return message

    yield from named(make, "sessions/{}")
    yield Bad("session unknown", make(ABSENT), "SESSION_NOT_FOUND")


def _list(world: World) -> Iterator[Bad]:
    yield from paged(pb.ListSessionsRequest)
    yield Bad("subject too long", pb.ListSessionsRequest(subject="x" * 257))


def _append(world: World) -> Iterator[Bad]:
    one = session_pb2.SessionMessage(role=USER, text="Why?")

    def make(**fields: Any) -> pb.AppendMessagesRequest:
        given = {"session": world.session, "messages": [one], **fields}
        return pb.AppendMessagesRequest(**given)

    def said(**fields: Any) -> pb.AppendMessagesRequest:
        return make(messages=[one, session_pb2.SessionMessage(**{"role": USER, **fields})])

    yield from named(lambda name: make(session=name), "sessions/{}")
    yield from identified(make)
    yield Bad("session unknown", make(session=ABSENT), "SESSION_NOT_FOUND")
    yield Bad("no message", make(messages=[]))
    yield Bad("1,001 messages", make(messages=[one] * 1_001))
    yield Bad("parent_index below 0", make(parent_index=-1))
    yield Bad("parent unknown", make(parent_index=1_000_000), "MESSAGE_NOT_FOUND")
    yield Bad("no role", said(role=0, text="x"))
    yield Bad("role unknown", said(role=99, text="x"))
    yield Bad("text too long", said(text="x" * 100_001))
    yield Bad("text with a NUL", said(text="a\0b"))
    yield Bad("payload too large", said(payload=_large()))
    yield Bad("an index", said(message_index=7))
    yield Bad("a parent of its own", said(parent_index=1))
    yield Bad("a time", said(create_time=timestamp_pb2.Timestamp(seconds=1)))


def _list_messages(world: World) -> Iterator[Bad]:
    make = partial(pb.ListMessagesRequest, session=world.session)
    yield from _session(pb.ListMessagesRequest, "session", world)
    yield from paged(make)
    yield Bad("leaf_index 0", make(leaf_index=0))
    yield Bad("leaf unknown", make(leaf_index=1_000_000), "MESSAGE_NOT_FOUND")
    yield Bad("parent_index below 0", make(parent_index=-1))
    yield Bad("parent unknown", make(parent_index=1_000_000), "MESSAGE_NOT_FOUND")


def _context(world: World) -> Iterator[Bad]:
    make = partial(pb.GetSessionContextRequest, name=world.session)
    yield from _session(pb.GetSessionContextRequest, "name", world)
    yield Bad("leaf_index below 0", make(leaf_index=-1))
    yield Bad("leaf unknown", make(leaf_index=1_000_000), "MESSAGE_NOT_FOUND")
    yield Bad("question too long", make(question="x" * 10_001))
    yield Bad("tokens_max below 0", make(tokens_max=-1))
    yield Bad("tokens_max over 32,768", make(tokens_max=32_769))
    yield Bad("older unknown", make(older=99))  # type: ignore[arg-type]
    yield Bad("model of the wrong form", make(generation_model="gpt"))


TABLE: Table = {
    "CreateSession": _create,
    "GetSession": partial(_session, pb.GetSessionRequest, "name"),
    "ListSessions": _list,
    "DeleteSession": partial(_session, pb.DeleteSessionRequest, "name"),
    "AppendMessages": _append,
    "ListMessages": _list_messages,
    "GetSessionContext": _context,
}
