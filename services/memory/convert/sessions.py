"""Sessions and their messages between the contract and the store."""

from __future__ import annotations

from typing import TypedDict, cast

from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from engine.types import Payload
from services.rpc import names, values
from services.store.messages import Message, NewMessage
from services.store.sessions import Session


class SessionValues(TypedDict):
    """What a caller says of a session."""

    subject: str
    display_name: str
    payload: Payload
    ttl_s: int


def session_id(name: str, field: str = "name") -> str:
    """The id in `sessions/{id}`."""
    return names.parse(name, "sessions/*", field)[0]


def session_name(session: str) -> str:
    """`sessions/{id}`."""
    return f"sessions/{session}"


def session_values(message: session_pb2.Session) -> SessionValues:
    """What a session is to be."""
    return SessionValues(
        subject=message.subject,
        display_name=message.display_name,
        payload=values.payload_value(message.payload),
        ttl_s=message.ttl_s,
    )


def created(session: str) -> pb.CreateSessionResponse:
    """What a repetition finds of a session that was made."""
    return pb.CreateSessionResponse(session=session_pb2.Session(name=session_name(session)))


def session_message(row: Session) -> session_pb2.Session:
    """A session as the contract says it."""
    return session_pb2.Session(
        name=session_name(row.id),
        display_name=row.display_name,
        subject=row.subject,
        payload=values.payload_message(row.payload),
        ttl_s=row.ttl_s,
        messages=row.messages,
        create_time=values.timestamp(row.create_time),
        update_time=values.timestamp(row.update_time),
        expire_time=values.timestamp(row.expire_time),
    )


def new_message(message: session_pb2.SessionMessage) -> NewMessage:
    """A message to append."""
    return NewMessage(
        role=message.role, text=message.text, payload=values.payload_value(message.payload)
    )


def message_message(row: Message) -> session_pb2.SessionMessage:
    """A message as the contract says it."""
    return session_pb2.SessionMessage(
        message_index=row.index,
        parent_index=row.parent,
        depth=row.depth,
        role=cast(session_pb2.SessionMessage.Role.ValueType, row.role),
        text=row.text,
        payload=values.payload_message(row.payload),
        create_time=values.timestamp(row.create_time),
    )
