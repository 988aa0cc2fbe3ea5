"""Messages of the generation and chat services."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from ragmesh._convert import embedding as vectors
from ragmesh._names import optional
from ragmesh._types import answers as types
from ragmesh._values import from_enum, from_time, to_enum
from ragmesh.api.chat.v1 import chat_service_pb2
from ragmesh.api.generation.v1 import (
    budget_pb2,
    citation_pb2,
    generation_service_pb2,
    message_pb2,
)


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
    return types.Usage(
        message.input_tokens,
        message.output_tokens,
        message.cached_input_tokens,
        message.cost_nanos,
        message.currency,
        message.price_version,
        message.estimated,
    )


def tool_call(message: message_pb2.ToolCall) -> types.ToolCall:
    return types.ToolCall(message.id, message.name, message.arguments)


def to_message(value: types.ChatMessage) -> message_pb2.ChatMessage:
    role = message_pb2.ChatMessage.Role.DESCRIPTOR
    calls = [
        message_pb2.ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in value.tool_calls
    ]
    return message_pb2.ChatMessage(
        role=to_enum(role, value.role, "messages.role"),
        text=value.text,
        tool_calls=calls,
        tool_call_id=value.tool_call_id,
    )


def to_tool(value: types.ToolDefinition) -> message_pb2.ToolDefinition:
    return message_pb2.ToolDefinition(
        name=value.name,
        description=value.description,
        parameters_schema=value.parameters_schema,
    )


def to_tool_choice(mode: types.ToolMode | None, tool: str) -> message_pb2.ToolChoice | None:
    if mode is None and not tool:
        return None
    number = to_enum(message_pb2.ToolChoice.Mode.DESCRIPTOR, mode or "required", "tool_choice")
    return message_pb2.ToolChoice(mode=number, tool=tool)


def generated(message: generation_service_pb2.GenerateTextResponse) -> types.GeneratedText:
    return types.GeneratedText(
        text=message.text,
        citations=tuple(citation(c) for c in message.citations),
        confidence=message.confidence,
        abstention_reason=_abstention(message.abstention_reason),
        usage=_usage(message.usage),
        cut=message.cut,
        generate_ms=message.generate_ms,
        tool_calls=tuple(tool_call(call) for call in message.tool_calls),
        finish_reason=cast(
            types.FinishReason,
            from_enum(message_pb2.FinishReason.DESCRIPTOR, message.finish_reason),
        ),
        model=message.model,
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
        fallbacks=tuple(message.fallbacks),
    )


def estimate(message: generation_service_pb2.EstimateCostResponse) -> types.CostEstimate:
    return types.CostEstimate(
        input_tokens_low=message.input_tokens_low,
        input_tokens_high=message.input_tokens_high,
        output_tokens_high=message.output_tokens_high,
        cost_low_nanos=message.cost_low_nanos,
        cost_high_nanos=message.cost_high_nanos,
        currency=message.currency,
        price_version=message.price_version,
    )


def budget(message: budget_pb2.Budget) -> types.Budget:
    return types.Budget(
        name=message.name,
        session=message.session,
        limit_nanos=message.limit_nanos,
        limit_tokens=message.limit_tokens,
        spent_nanos=message.spent_nanos,
        spent_tokens=message.spent_tokens,
        reserved_nanos=message.reserved_nanos,
        reserved_tokens=message.reserved_tokens,
        create_time=from_time(message.create_time),
        update_time=from_time(message.update_time),
    )
