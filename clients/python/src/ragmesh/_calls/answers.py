"""Calls of the generation and chat services."""

from __future__ import annotations

from collections.abc import Iterable

from ragmesh import _rpcs as rpcs
from ragmesh import _status
from ragmesh._convert import answers as convert
from ragmesh._filters import Filter, to_message
from ragmesh._names import collection as collection_name
from ragmesh._names import optional, resource
from ragmesh._plan import Pages, Plan, Source, paged, send
from ragmesh._session import Lane, Session
from ragmesh._types import answers as types
from ragmesh._values import to_enum
from ragmesh.api.chat.v1 import chat_service_pb2 as chat_pb
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

# The model that needs nothing else: it quotes sentences of the passages.
EXTRACTIVE_MODEL = "extractive"
# A long answer of a slow model.
STREAM_TIMEOUT_S = 300.0


def generate_text(
    session: Session,
    question: str,
    passages: Iterable[types.SourcePassage] = (),
    *,
    model: str = EXTRACTIVE_MODEL,
    output_tokens_max: int = 0,
    temperature: float | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.GeneratedText]:
    """Writes an answer from passages (at most 100, the best first).

    `output_tokens_max` 0 and `temperature` None are the model's own. Raises
    GenerationModelNotFound or UpstreamFailed.
    """
    request = pb.GenerateTextRequest(
        model=resource("generationModels", model, "model"),
        question=question,
        passages=[convert.to_source(passage) for passage in passages],
        output_tokens_max=output_tokens_max,
        temperature=temperature,
    )
    response = yield from send(session, rpcs.GENERATE_TEXT, request, timeout_s=timeout_s, lane=lane)
    return convert.generated(response)


def stream_generate_text(
    session: Session,
    question: str,
    passages: Iterable[types.SourcePassage] = (),
    *,
    model: str = EXTRACTIVE_MODEL,
    output_tokens_max: int = 0,
    temperature: float | None = None,
    timeout_s: float | None = STREAM_TIMEOUT_S,
    lane: Lane | None = None,
) -> Source[types.GenerationEvent]:
    """The same as events while it is written; the last one is the whole GeneratedText.

    Raises StreamCut if it ends without it.
    """
    request = pb.StreamGenerateTextRequest(
        model=resource("generationModels", model, "model"),
        question=question,
        passages=[convert.to_source(passage) for passage in passages],
        output_tokens_max=output_tokens_max,
        temperature=temperature,
    )
    return Source(
        session,
        rpcs.STREAM_GENERATE_TEXT,
        request,
        read=_generation_event,
        is_last=lambda event: isinstance(event, types.GeneratedText),
        timeout_s=timeout_s,
        lane=lane,
    )


def list_generation_models(
    session: Session, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[types.GenerationModel]:
    """Lists the generation models that are configured, by name."""
    return paged(
        session,
        rpcs.LIST_GENERATION_MODELS,
        pb.ListGenerationModelsRequest(page_size=page_size),
        lambda response: map(convert.model, response.generation_models),
        timeout_s=timeout_s,
    )


def get_generation_model(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.GenerationModel]:
    """Returns one generation model; raises GenerationModelNotFound."""
    request = pb.GetGenerationModelRequest(name=resource("generationModels", name, "name"))
    response = yield from send(session, rpcs.GET_GENERATION_MODEL, request, timeout_s=timeout_s)
    return convert.model(response.generation_model)


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


def _generation_event(message: pb.StreamGenerateTextResponse) -> types.GenerationEvent | None:
    match message.WhichOneof("event"):
        case "started":
            return types.GenerationStarted(message.started.model)
        case "delta":
            return types.TextDelta(message.delta.text)
        case "citation":
            return convert.citation(message.citation)
        case "finished":
            return convert.generated(message.finished)
        case "failed":
            raise _status.from_status(message.failed)
        case _:  # an event of a newer server
            return None


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
