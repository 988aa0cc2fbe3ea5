"""Messages of the memory service about sessions."""

from __future__ import annotations

from typing import cast

from ragmesh._types import sessions as types
from ragmesh._values import from_enum, from_struct, from_time, to_enum, to_struct
from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

_ROLE = session_pb2.SessionMessage.Role.DESCRIPTOR


def session(message: session_pb2.Session) -> types.Session:
    return types.Session(
        name=message.name,
        display_name=message.display_name,
        subject=message.subject,
        payload=from_struct(message.payload),
        ttl_s=message.ttl_s,
        messages=message.messages,
        create_time=from_time(message.create_time),
        update_time=from_time(message.update_time),
        expire_time=from_time(message.expire_time),
    )


def session_message(message: session_pb2.SessionMessage) -> types.SessionMessage:
    return types.SessionMessage(
        message_index=message.message_index,
        parent_index=message.parent_index,
        depth=message.depth,
        role=cast(types.MessageRole, from_enum(_ROLE, message.role)),
        text=message.text,
        payload=from_struct(message.payload),
        create_time=from_time(message.create_time),
    )


def new_message(given: types.NewMessage) -> session_pb2.SessionMessage:
    return session_pb2.SessionMessage(
        role=to_enum(_ROLE, given.role, "role"),
        text=given.text,
        payload=to_struct(given.payload) if given.payload else None,
    )


def session_context(message: pb.GetSessionContextResponse) -> types.SessionContext:
    return types.SessionContext(
        messages=tuple(
            types.ContextMessage(
                message=session_message(one.message),
                tokens=one.tokens,
                relevance=one.relevance if one.HasField("relevance") else None,
                cut=one.cut,
            )
            for one in message.messages
        ),
        summary=message.summary,
        summary_index=message.summary_index,
        tokens=message.tokens,
        messages_left_out=message.messages_left_out,
        older=cast(types.OlderTurns, from_enum(pb.OlderTurns.DESCRIPTOR, message.older)),
        context_ms=message.context_ms,
    )
