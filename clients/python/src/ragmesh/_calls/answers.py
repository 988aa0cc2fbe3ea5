"""Calls of the chat service."""

from __future__ import annotations

from collections.abc import Iterable

from ragmesh import _rpcs as rpcs
from ragmesh import _status
from ragmesh._convert import answers as convert
from ragmesh._filters import Filter, to_message
from ragmesh._names import collection as collection_name
from ragmesh._names import optional
from ragmesh._plan import Plan, Source, send
from ragmesh._session import Lane, Session
from ragmesh._types import answers as types
from ragmesh._values import to_enum
from ragmesh.api.chat.v1 import chat_service_pb2 as chat_pb

# A long answer of a slow model.
STREAM_TIMEOUT_S = 300.0


def ask_question(
    session: Session,
    question: str,
    collections: str | Iterable[str],
    *,
    generation_model: str = "",
    filter: Filter | None = None,
    passages_max: int = 0,
    context_tokens_max: int = 0,
    unsupported: types.UnsupportedPolicy = "",
    history: Iterable[types.ChatTurn] = (),
    chat_session: str = "",
    memory_subject: str = "",
    confidence_min: float | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.Answer]:
    """Answers a question from one collection or up to 16, and says what the answer rests on.

    `generation_model` empty is the server's own choice. `passages_max` (looked at in each
    collection) is 0 for 20, `context_tokens_max` 0 for 2,000. An answer that nothing supports is
    no failure: its `text` is empty and `abstention_reason` says why. Sentences of which the
    passages say something else are flagged, or left out with `unsupported` "withhold".

    A question may lean on what was said before ("And who built it?"): on `history`, the oldest
    first, or on `chat_session`. `confidence_min` None is the calibrated bound. Raises
    CollectionNotFound, GenerationModelNotFound or UpstreamFailed.
    """
    names = _collections(collections)
    request = chat_pb.AskQuestionRequest(
        question=question,
        collections=names,
        generation_model=optional("generationModels", generation_model, "generation_model"),
        filter=to_message(filter),
        passages_max=passages_max,
        context_tokens_max=context_tokens_max,
        min_watermarks=_written(session, names),
        unsupported=to_enum(chat_pb.UnsupportedPolicy.DESCRIPTOR, unsupported, "unsupported"),
        history=convert.to_turns(history),
        session=optional("sessions", chat_session, "session"),
        memory_subject=memory_subject,
        confidence_min=confidence_min,
    )
    response = yield from send(session, rpcs.ASK_QUESTION, request, timeout_s=timeout_s, lane=lane)
    return convert.answer(response.answer)


def stream_answer(
    session: Session,
    question: str,
    collections: str | Iterable[str],
    *,
    generation_model: str = "",
    filter: Filter | None = None,
    passages_max: int = 0,
    context_tokens_max: int = 0,
    unsupported: types.UnsupportedPolicy = "",
    history: Iterable[types.ChatTurn] = (),
    chat_session: str = "",
    memory_subject: str = "",
    confidence_min: float | None = None,
    timeout_s: float | None = STREAM_TIMEOUT_S,
    lane: Lane | None = None,
) -> Source[types.AnswerEvent]:
    """The same as events while it is written; the last one is the whole Answer.

    Raises StreamCut if it ends without it.
    """
    names = _collections(collections)
    request = chat_pb.StreamAnswerRequest(
        question=question,
        collections=names,
        generation_model=optional("generationModels", generation_model, "generation_model"),
        filter=to_message(filter),
        passages_max=passages_max,
        context_tokens_max=context_tokens_max,
        min_watermarks=_written(session, names),
        unsupported=to_enum(chat_pb.UnsupportedPolicy.DESCRIPTOR, unsupported, "unsupported"),
        history=convert.to_turns(history),
        session=optional("sessions", chat_session, "session"),
        memory_subject=memory_subject,
        confidence_min=confidence_min,
    )
    return Source(
        session,
        rpcs.STREAM_ANSWER,
        request,
        read=_answer_event,
        is_last=lambda event: isinstance(event, types.Answer),
        timeout_s=timeout_s,
        lane=lane,
    )


def _written(session: Session, names: list[str]) -> dict[str, str]:
    """What this client wrote to each collection, so that answers can rest on it."""
    known = {name: session.min_watermark(name, None) for name in names}
    return {name: watermark for name, watermark in known.items() if watermark}


def _collections(names: str | Iterable[str]) -> list[str]:
    listed = [names] if isinstance(names, str) else names
    return [collection_name(name, "collections") for name in listed]


def _answer_event(message: chat_pb.StreamAnswerResponse) -> types.AnswerEvent | None:
    match message.WhichOneof("event"):
        case "started":
            started = message.started
            return types.AnswerStarted(started.generation_model, started.context_passages)
        case "delta":
            return types.TextDelta(message.delta.text)
        case "citation":
            return convert.citation(message.citation)
        case "finished":
            return convert.answer(message.finished)
        case "failed":
            raise _status.from_status(message.failed)
        case _:  # an event of a newer server
            return None
