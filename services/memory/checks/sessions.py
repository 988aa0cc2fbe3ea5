"""Requests about sessions and their messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from engine.errors import InvalidField
from services.rpc import fields, names, paging
from services.rpc.chain import Check

DISPLAY_NAME_CHARACTERS_MAX = 500
SUBJECT_CHARACTERS_MAX = 256
PAYLOAD_BYTES_MAX = 32 << 10
TTL_S_MAX = 315_360_000
APPENDED_MAX = 1_000
TEXT_CHARACTERS_MAX = 100_000
INDEX_MAX = 2**31 - 1

_GIVEN_BY_US = {
    session_pb2.Session: ("name", "messages", "create_time", "update_time", "expire_time"),
    session_pb2.SessionMessage: ("message_index", "parent_index", "depth", "create_time"),
}


def _output_only(message: session_pb2.Session | session_pb2.SessionMessage, field: str) -> None:
    """Refuses what the server decides: to pass over it would be to do something else than asked."""
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    for name in _GIVEN_BY_US[type(message)]:
        if name in given:
            raise InvalidField(
                f"{field}.{name} is set, but the server says what it is. Leave it out.",
                field=f"{field}.{name}",
            )


def _create(request: pb.CreateSessionRequest) -> None:
    fields.request_id(request.request_id)
    if request.session_id:
        names.check_id(request.session_id, "session_id")
    session = request.session
    _output_only(session, "session")
    fields.characters(session.display_name, "session.display_name", DISPLAY_NAME_CHARACTERS_MAX)
    fields.storable(session.display_name, "session.display_name")
    subject(session.subject, "session.subject")
    fields.payload(session.payload, "session.payload", PAYLOAD_BYTES_MAX)
    fields.number(session.ttl_s, "session.ttl_s", 0, TTL_S_MAX)


def subject(value: str, field: str) -> None:
    """Whose something is; may be empty."""
    fields.characters(value, field, SUBJECT_CHARACTERS_MAX)
    fields.storable(value, field)


def _named(request: pb.GetSessionRequest | pb.DeleteSessionRequest) -> None:
    names.parse(request.name, "sessions/*", "name")


def _list(request: pb.ListSessionsRequest) -> None:
    paging.page_size(request.page_size)
    subject(request.subject, "subject")


def _append(request: pb.AppendMessagesRequest) -> None:
    names.parse(request.session, "sessions/*", "session")
    fields.request_id(request.request_id)
    fields.items(request.messages, "messages", APPENDED_MAX)
    if request.HasField("parent_index"):
        fields.number(request.parent_index, "parent_index", 0, INDEX_MAX)
    for index, message in enumerate(request.messages):
        at = f"messages[{index}]"
        _output_only(message, at)
        fields.enum(message, "role")
        if message.role == session_pb2.SessionMessage.ROLE_UNSPECIFIED:
            raise InvalidField(f"{at}.role is missing. Say who wrote it.", field=f"{at}.role")
        fields.characters(message.text, f"{at}.text", TEXT_CHARACTERS_MAX)
        fields.storable(message.text, f"{at}.text")
        fields.payload(message.payload, f"{at}.payload", PAYLOAD_BYTES_MAX)


def _list_messages(request: pb.ListMessagesRequest) -> None:
    names.parse(request.session, "sessions/*", "session")
    paging.page_size(request.page_size)
    if request.HasField("leaf_index"):
        fields.number(request.leaf_index, "leaf_index", 1, INDEX_MAX)
    if request.HasField("parent_index"):
        fields.number(request.parent_index, "parent_index", 0, INDEX_MAX)


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.CreateSessionRequest: _create,
        pb.GetSessionRequest: _named,
        pb.ListSessionsRequest: _list,
        pb.DeleteSessionRequest: _named,
        pb.AppendMessagesRequest: _append,
        pb.ListMessagesRequest: _list_messages,
    }
)
