"""What of a session is read, between the contract and the core."""

from __future__ import annotations

from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from services.memory.convert.sessions import message_message
from services.memory.history import TOKENS_DEFAULT, Context, Older, Read, Wanted

USER: int = session_pb2.SessionMessage.ROLE_USER
"""Who opens a turn."""

_OLDER = {
    pb.OLDER_TURNS_UNSPECIFIED: Older.ANY,
    pb.OLDER_TURNS_NONE: Older.NONE,
    pb.OLDER_TURNS_RELEVANT: Older.RELEVANT,
    pb.OLDER_TURNS_SUMMARY: Older.SUMMARY,
}
_NUMBERS = {older: number for number, older in _OLDER.items()}


def wanted_value(request: pb.GetSessionContextRequest) -> Wanted:
    """What is asked for, with the contract's default."""
    return Wanted(
        question=request.question,
        tokens_max=request.tokens_max or TOKENS_DEFAULT,
        older=_OLDER[request.older],
    )


def context_message(context: Context, context_ms: float) -> pb.GetSessionContextResponse:
    """What is to be read, as the contract says it."""
    summary = context.summary
    return pb.GetSessionContextResponse(
        messages=[_read(one) for one in context.messages],
        summary=summary.text if summary else "",
        summary_index=summary.message_index if summary else 0,
        tokens=context.tokens,
        messages_left_out=context.left_out,
        older=_NUMBERS[context.older],
        context_ms=context_ms,
    )


def _read(one: Read) -> pb.ContextMessage:
    return pb.ContextMessage(
        message=message_message(one.message),
        tokens=one.tokens,
        relevance=one.relevance,
        cut=one.cut,
    )
