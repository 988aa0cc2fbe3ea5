"""Calls of the chat service about answers that are kept, and the reading of their events."""

from __future__ import annotations

from typing import Any, Literal

from ragmesh import _rpcs as rpcs
from ragmesh import _status
from ragmesh._convert import answers as convert
from ragmesh._convert import kept_answers
from ragmesh._names import refuse, resource
from ragmesh._plan import Following, Pages, Plan, Source, paged, send
from ragmesh._session import Session
from ragmesh._types import answers as types
from ragmesh._types import kept_answers as kept_types
from ragmesh._values import to_enum
from ragmesh.api.chat.v1 import chat_service_pb2 as pb

FOLLOW_TIMEOUT_S = 600.0


def get_answer(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[kept_types.KeptAnswer]:
    """Returns an answer of the last day as it is now, with the receipt of what it was made from.

    Raises AnswerNotFound.
    """
    request = pb.GetAnswerRequest(name=resource("answers", name, "name"))
    response = yield from send(session, rpcs.GET_ANSWER, request, timeout_s=timeout_s)
    return kept_answers.kept(response.answer)


def list_answers(
    session: Session,
    *,
    state: Literal["", "running", "finished", "failed", "cancelled"] = "",
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[kept_types.KeptAnswer]:
    """Lists the answers of the last day, the newest first: those in one state if given."""
    return paged(
        session,
        rpcs.LIST_ANSWERS,
        pb.ListAnswersRequest(
            page_size=page_size, state=to_enum(pb.AnswerState.DESCRIPTOR, state, "state")
        ),
        lambda response: map(kept_answers.kept, response.answers),
        timeout_s=timeout_s,
    )


def cancel_answer(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[kept_types.KeptAnswer]:
    """Ends an answer that is being written, wherever that is; one that was cancelled is returned.

    Raises AnswerNotFound, or AnswerFinished where it is over otherwise.
    """
    request = pb.CancelAnswerRequest(name=resource("answers", name, "name"))
    response = yield from send(session, rpcs.CANCEL_ANSWER, request, timeout_s=timeout_s)
    return kept_answers.kept(response.answer)


def replay_answer(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.Answer]:
    """Asks an answer's question once more, with the same bounds, filter and model, as collections
    are now. What became different, the receipts of the two tell.

    Raises AnswerNotFound, InvalidField for an answer that was not finished and has no receipt, and
    what ask_question raises.
    """
    request = pb.GetAnswerRequest(name=resource("answers", name, "name"))
    kept = yield from send(session, rpcs.GET_ANSWER, request, timeout_s=timeout_s)
    if not kept.answer.HasField("receipt"):
        raise refuse("name", f"is {name!r}, which was not finished: it has no receipt.")
    asked = pb.AskQuestionRequest.FromString(kept.answer.receipt.request.SerializeToString())
    asked.min_watermarks.clear()
    response = yield from send(session, rpcs.ASK_QUESTION, asked, timeout_s=timeout_s)
    return convert.answer(response.answer)


def resume_answer(
    session: Session,
    name: str,
    *,
    after_event_id: int = 0,
    timeout_s: float | None = FOLLOW_TIMEOUT_S,
) -> Source[types.AnswerEvent]:
    """Gives the events of an answer after `after_event_id`, those to come as they come.

    Each event has its `event_id`. A connection that breaks goes on by itself until `timeout_s` is
    over. Nothing comes of an answer that is over and was read to its end. Raises AnswerNotFound,
    InvalidField for an event that the answer does not have, and the answer's own error.
    """
    return Source(
        session,
        rpcs.RESUME_ANSWER,
        pb.ResumeAnswerRequest(
            name=resource("answers", name, "name"), after_event_id=after_event_id
        ),
        read=read_event,
        is_last=lambda event: isinstance(event, types.Answer),
        following=Follow(name),
        may_be_empty=True,
        timeout_s=timeout_s,
    )


class Follow:
    """How to go on after each message of an answer's events."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __call__(self, message: Any) -> Following | None:
        event = _event(message)
        if event.WhichOneof("event") == "started":
            self._name = event.started.answer
        if not self._name:  # a node that keeps no answers
            return None
        request = pb.ResumeAnswerRequest(
            name=resource("answers", self._name, "name"), after_event_id=event.event_id
        )
        return Following(rpcs.RESUME_ANSWER, request)


def read_event(message: Any) -> types.AnswerEvent | None:
    """An event as a value; None for one that says nothing to callers."""
    event = _event(message)
    number = event.event_id
    match event.WhichOneof("event"):
        case "started":
            started = event.started
            return types.AnswerStarted(
                started.generation_model, started.context_passages, started.answer, number
            )
        case "retrieved":
            return types.AnswerRetrieved(event.retrieved.context_passages, number)
        case "delta":
            return types.TextDelta(event.delta.text, number)
        case "citation":
            return convert.citation(event.citation)
        case "warning":
            return types.AnswerWarning(event.warning.message, number)
        case "finished":
            return convert.answer(event.finished)
        case "failed":
            raise _status.from_status(event.failed)
        case _:  # a sign of life, or an event of a newer server
            return None


def _event(message: Any) -> pb.StreamAnswerResponse:
    found: pb.StreamAnswerResponse = (
        message.event if isinstance(message, pb.ResumeAnswerResponse) else message
    )
    return found
