"""Calls of the memory service about sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ragmesh import _rpcs as rpcs
from ragmesh._convert import sessions as convert
from ragmesh._names import optional, plain_id, refuse, resource
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Session, write_id
from ragmesh._types import sessions as types
from ragmesh._values import to_enum, to_struct
from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2


def create_session(
    session: Session,
    *,
    session_id: str = "",
    display_name: str = "",
    subject: str = "",
    payload: Mapping[str, object] | None = None,
    ttl_s: int = 0,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Session]:
    """Makes an empty session, for the messages of one conversation.

    `subject` says whose it is, such as the id of a user. With `ttl_s`, it is kept for so many
    seconds after its last message, else until it is deleted. Raises SessionExists or
    RequestIdReused.
    """
    request = pb.CreateSessionRequest(
        session=session_pb2.Session(
            display_name=display_name,
            subject=subject,
            payload=to_struct(payload) if payload else None,
            ttl_s=ttl_s,
        ),
        session_id=plain_id("sessions", session_id, "session_id"),
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.CREATE_SESSION, request, timeout_s=timeout_s)
    return convert.session(response.session)


def get_session(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.Session]:
    """Returns one session; raises SessionNotFound."""
    request = pb.GetSessionRequest(name=resource("sessions", name, "name"))
    response = yield from send(session, rpcs.GET_SESSION, request, timeout_s=timeout_s)
    return convert.session(response.session)


def list_sessions(
    session: Session,
    *,
    subject: str = "",
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[types.Session]:
    """Lists sessions, the newest first: those of one subject if given."""
    return paged(
        session,
        rpcs.LIST_SESSIONS,
        pb.ListSessionsRequest(page_size=page_size, subject=subject),
        lambda response: map(convert.session, response.sessions),
        timeout_s=timeout_s,
    )


def delete_session(session: Session, name: str, *, timeout_s: float | None = None) -> Plan[int]:
    """Deletes a session with its messages, and returns how many those were.

    Raises SessionNotFound.
    """
    request = pb.DeleteSessionRequest(name=resource("sessions", name, "name"))
    response = yield from send(session, rpcs.DELETE_SESSION, request, timeout_s=timeout_s)
    return response.messages


def append_messages(
    session: Session,
    name: str,
    messages: Sequence[types.NewMessage],
    *,
    parent_index: int | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[tuple[int, ...]]:
    """Appends 1 to 1,000 messages, each after the one before, and returns their indexes.

    The first follows `parent_index`: None for the last message of the session, 0 for none. To edit
    a message, or to write an answer anew, give the parent of the one that is replaced: both stay,
    as branches. They are durable when this returns, all of them or none. Raises SessionNotFound,
    MessageNotFound, LimitReached or RequestIdReused.
    """
    if isinstance(messages, types.NewMessage):
        raise refuse("messages", "is one message; give a list.")
    request = pb.AppendMessagesRequest(
        session=resource("sessions", name, "name"),
        messages=[convert.new_message(message) for message in messages],
        parent_index=parent_index,
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.APPEND_MESSAGES, request, timeout_s=timeout_s)
    return tuple(response.message_indexes)


def list_messages(
    session: Session,
    name: str,
    *,
    leaf_index: int | None = None,
    parent_index: int | None = None,
    newest_first: bool = False,
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[types.SessionMessage]:
    """Lists messages of a session: all of them, in the order in which they were appended, or the
    branch that leads to `leaf_index`, or those that follow `parent_index` directly.

    Raises SessionNotFound or MessageNotFound.
    """
    if leaf_index is not None and parent_index is not None:
        raise refuse("leaf_index", "does not go with parent_index: give one of them.")
    request = pb.ListMessagesRequest(
        session=resource("sessions", name, "name"), page_size=page_size, newest_first=newest_first
    )
    if leaf_index is not None:
        request.leaf_index = leaf_index
    if parent_index is not None:
        request.parent_index = parent_index
    return paged(
        session,
        rpcs.LIST_MESSAGES,
        request,
        lambda response: map(convert.session_message, response.messages),
        timeout_s=timeout_s,
    )


def get_session_context(
    session: Session,
    name: str,
    question: str = "",
    *,
    leaf_index: int | None = None,
    tokens_max: int = 0,
    older: Literal["", "none", "relevant", "summary"] = "",
    generation_model: str = "",
    timeout_s: float | None = None,
) -> Plan[types.SessionContext]:
    """Chooses what of a session to read before a question is answered, within `tokens_max` tokens
    (0 for 2,000).

    The newest turns of the branch that ends with `leaf_index` (None for the last message that was
    appended); and where not all fit, a summary of the older ones, if `generation_model` (or the
    default one) can write it, else those that say something about the question. Raises
    SessionNotFound, MessageNotFound or GenerationModelNotFound.
    """
    request = pb.GetSessionContextRequest(
        name=resource("sessions", name, "name"),
        question=question,
        tokens_max=tokens_max,
        older=to_enum(pb.OlderTurns.DESCRIPTOR, older, "older"),
        generation_model=optional("generationModels", generation_model, "generation_model"),
    )
    if leaf_index is not None:
        request.leaf_index = leaf_index
    response = yield from send(session, rpcs.GET_SESSION_CONTEXT, request, timeout_s=timeout_s)
    return convert.session_context(response)
