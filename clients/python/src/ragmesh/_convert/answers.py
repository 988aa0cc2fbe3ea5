"""Messages of the generation and chat services."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from ragmesh._convert import embedding as vectors
from ragmesh._names import optional
from ragmesh._types import answers as types
from ragmesh._values import from_enum
from ragmesh.api.chat.v1 import chat_service_pb2
from ragmesh.api.generation.v1 import citation_pb2, generation_service_pb2


def to_source(value: types.SourcePassage) -> citation_pb2.SourcePassage:
    return citation_pb2.SourcePassage(
        collection=optional("collections", value.collection, "passages.collection"),
        point_id=value.point_id,
        document=value.document,
        passage_index=value.passage_index,
        text=value.text,
        span=vectors.to_span(value.span),
        score=value.score,
        sentences=vectors.to_sentences(value.sentences),
    )


def citation(message: citation_pb2.Citation) -> types.Citation:
    return types.Citation(
        collection=message.collection,
        point_id=message.point_id,
        document=message.document,
        passage_index=message.passage_index,
        span=vectors.span(message.span),
        quote=message.quote,
        answer_span=vectors.span(message.answer_span),
        score=message.score,
    )


def _abstention(number: int) -> types.AbstentionReason | None:
    if not number:
        return None
    return cast(types.AbstentionReason, from_enum(citation_pb2.AbstentionReason.DESCRIPTOR, number))


def _usage(message: citation_pb2.Usage) -> types.Usage:
    return types.Usage(message.input_tokens, message.output_tokens)


def generated(message: generation_service_pb2.GenerateTextResponse) -> types.GeneratedText:
    return types.GeneratedText(
        text=message.text,
        citations=tuple(citation(c) for c in message.citations),
        confidence=message.confidence,
        abstention_reason=_abstention(message.abstention_reason),
        usage=_usage(message.usage),
        cut=message.cut,
        generate_ms=message.generate_ms,
    )


def answer(message: chat_service_pb2.Answer) -> types.Answer:
    timings = message.timings
    return types.Answer(
        question=message.question,
        text=message.text,
        citations=tuple(citation(c) for c in message.citations),
        confidence=message.confidence,
        abstention_reason=_abstention(message.abstention_reason),
        timings=types.AnswerTimings(
            search_ms=timings.search_ms,
            context_ms=timings.context_ms,
            generate_ms=timings.generate_ms,
            check_ms=timings.check_ms,
            total_ms=timings.total_ms,
        ),
        usage=_usage(message.usage),
        generation_model=message.generation_model,
        context_passages=message.context_passages,
        standalone_question=message.standalone_question,
        parts=tuple(message.parts),
        sentences=tuple(_sentence(sentence) for sentence in message.sentences),
        requeried=message.requeried,
        withheld_sentences=message.withheld_sentences,
    )


def _sentence(message: chat_service_pb2.AnswerSentence) -> types.AnswerSentence:
    kind = chat_service_pb2.SupportFault.DESCRIPTOR
    faults = (cast(types.SupportFault, from_enum(kind, fault)) for fault in message.faults)
    return types.AnswerSentence(
        span=vectors.span(message.span),
        supported=message.supported,
        faults=tuple(faults),
        citation_indexes=tuple(message.citation_indexes),
        coverage=message.coverage,
    )


def to_turns(turns: Iterable[types.ChatTurn]) -> list[chat_service_pb2.ChatTurn]:
    return [chat_service_pb2.ChatTurn(question=t.question, answer=t.answer) for t in turns]


def model(message: generation_service_pb2.GenerationModel) -> types.GenerationModel:
    backend = from_enum(generation_service_pb2.GenerationModel.Backend.DESCRIPTOR, message.backend)
    return types.GenerationModel(
        name=message.name,
        display_name=message.display_name,
        backend=cast(types.Backend, backend),
        upstream_model=message.upstream_model,
    )
