"""Between the contract's messages and the service's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from google.rpc import status_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import budget_pb2, citation_pb2, message_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.answers.evidence import Citation, Passage
from engine.types import Sentences, Vector
from services.generation.backend import (
    Abstention,
    Backend,
    ChatMessage,
    Cost,
    Delta,
    Finish,
    Progress,
    Role,
    Started,
    Task,
    Tool,
    ToolCall,
    ToolChoice,
    Written,
)
from services.generation.language_backend import LanguageBackend
from services.generation.spending import Estimate
from services.rpc.values import sentences_value
from services.store.budgets import Budget

Request = pb.GenerateTextRequest | pb.StreamGenerateTextRequest

EMBEDDING_MODEL = "embeddingModels/default"

_ABSTENTIONS: dict[Abstention, citation_pb2.AbstentionReason.ValueType] = {
    "": citation_pb2.ABSTENTION_REASON_UNSPECIFIED,
    "no_passage": citation_pb2.ABSTENTION_REASON_NO_PASSAGE,
    "low_support": citation_pb2.ABSTENTION_REASON_LOW_SUPPORT,
    "unverified": citation_pb2.ABSTENTION_REASON_UNVERIFIED,
}
_BACKENDS = {
    "extractive": pb.GenerationModel.BACKEND_EXTRACTIVE,
    "openai": pb.GenerationModel.BACKEND_OPENAI,
    "anthropic": pb.GenerationModel.BACKEND_ANTHROPIC,
}
_FINISHES: dict[Finish, message_pb2.FinishReason.ValueType] = {
    "stop": message_pb2.FINISH_REASON_STOP,
    "length": message_pb2.FINISH_REASON_LENGTH,
    "tool_calls": message_pb2.FINISH_REASON_TOOL_CALLS,
    "budget": message_pb2.FINISH_REASON_BUDGET,
    "filtered": message_pb2.FINISH_REASON_FILTERED,
}
_ROLES: dict[int, Role] = {
    message_pb2.ChatMessage.ROLE_SYSTEM: "system",
    message_pb2.ChatMessage.ROLE_USER: "user",
    message_pb2.ChatMessage.ROLE_ASSISTANT: "assistant",
    message_pb2.ChatMessage.ROLE_TOOL: "tool",
}


def passage_value(passage: citation_pb2.SourcePassage) -> Passage:
    """A passage that an answer may rest on."""
    return Passage(
        passage.collection,
        passage.point_id,
        passage.document,
        passage.passage_index,
        passage.text,
        passage.score,
        sentences_value(passage.sentences),
    )


def task_value(request: Request | pb.EstimateCostRequest) -> Task:
    """What a request asks for. The question of a chat is the last message of the user."""
    messages = [_chat_message(m) for m in request.messages]
    asked = next((m.text for m in reversed(messages) if m.role == "user"), "")
    task = Task(
        question=request.question or asked,
        passages=[passage_value(p) for p in request.passages],
        output_tokens_max=request.output_tokens_max or None,
        messages=messages,
        tools=[Tool(t.name, t.description, t.parameters_schema) for t in request.tools],
        output_schema=request.output_schema,
    )
    if isinstance(request, pb.EstimateCostRequest):
        return task
    return replace(
        task,
        temperature=request.temperature if request.HasField("temperature") else None,
        tool_choice=_tool_choice(request.tool_choice),
        stop_sequences=tuple(request.stop_sequences),
        seed=request.seed if request.HasField("seed") else None,
        confidence_min=request.confidence_min if request.HasField("confidence_min") else None,
        session=request.session.removeprefix("sessions/"),
    )


def _chat_message(message: message_pb2.ChatMessage) -> ChatMessage:
    calls = [ToolCall(c.id, c.name, c.arguments) for c in message.tool_calls]
    return ChatMessage(_ROLES[message.role], message.text, calls, message.tool_call_id)


def _tool_choice(choice: message_pb2.ToolChoice) -> ToolChoice:
    match choice.mode:
        case message_pb2.ToolChoice.MODE_NONE:
            return ToolChoice("none")
        case message_pb2.ToolChoice.MODE_REQUIRED:
            return ToolChoice("required", choice.tool)
        case _:
            return ToolChoice()


def citation_message(citation: Citation, request: Request) -> citation_pb2.Citation:
    """A citation whose span points into the document's stored text, or into the point's text
    where there is no document."""
    start = 0
    if citation.document:
        start = next(
            p.span.start for p in request.passages if (p.collection, p.point_id) == citation.key
        )
    return citation_pb2.Citation(
        collection=citation.collection,
        point_id=citation.point_id,
        document=citation.document,
        passage_index=citation.passage_index,
        span=vector_pb2.TextSpan(start=start + citation.span.start, end=start + citation.span.end),
        quote=citation.quote,
        answer_span=vector_pb2.TextSpan(
            start=citation.answer_span.start, end=citation.answer_span.end
        ),
        score=citation.score,
    )


def response(written: Written, request: Request, generate_ms: float) -> pb.GenerateTextResponse:
    """The whole answer."""
    cost = written.cost or Cost(0, "", "")
    return pb.GenerateTextResponse(
        text=written.text,
        citations=[citation_message(c, request) for c in written.citations],
        confidence=written.confidence,
        abstention_reason=_ABSTENTIONS[written.abstention],
        usage=citation_pb2.Usage(
            input_tokens=written.input_tokens,
            output_tokens=written.output_tokens,
            cached_input_tokens=written.cached_input_tokens,
            cost_nanos=cost.nanos,
            currency=cost.currency,
            price_version=cost.price_version,
            estimated=written.estimated,
        ),
        cut=written.cut,
        generate_ms=generate_ms,
        tool_calls=[_tool_call(call) for call in written.tool_calls],
        finish_reason=_FINISHES[written.finish],
        model=f"generationModels/{written.model_id}",
    )


def _tool_call(call: ToolCall) -> message_pb2.ToolCall:
    return message_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments)


def event(progress: Progress, request: Request, elapsed_ms: float) -> pb.StreamGenerateTextResponse:
    """One event, not numbered yet."""
    match progress:
        case Started(model_id):
            model = f"generationModels/{model_id}"
            return pb.StreamGenerateTextResponse(started=pb.GenerationStarted(model=model))
        case Delta(text):
            return pb.StreamGenerateTextResponse(delta=pb.TextDelta(text=text))
        case Citation():
            return pb.StreamGenerateTextResponse(citation=citation_message(progress, request))
        case ToolCall():
            return pb.StreamGenerateTextResponse(tool_call=_tool_call(progress))
        case Written():
            return pb.StreamGenerateTextResponse(finished=response(progress, request, elapsed_ms))


def failed(status: status_pb2.Status) -> pb.StreamGenerateTextResponse:
    """The last event of a failure."""
    return pb.StreamGenerateTextResponse(failed=status)


def model_message(model_id: str, backend: Backend | LanguageBackend) -> pb.GenerationModel:
    """A model as listed."""
    return pb.GenerationModel(
        name=f"generationModels/{model_id}",
        display_name=backend.display_name,
        backend=_BACKENDS[backend.kind],
        upstream_model=backend.upstream_model,
        fallbacks=[f"generationModels/{fallback}" for fallback in backend.fallbacks],
    )


def estimate_response(estimate: Estimate) -> pb.EstimateCostResponse:
    """The bounds of a cost."""
    return pb.EstimateCostResponse(
        input_tokens_low=estimate.input.low,
        input_tokens_high=estimate.input.high,
        output_tokens_high=estimate.output_tokens_high,
        cost_low_nanos=estimate.cost_low_nanos,
        cost_high_nanos=estimate.cost_high_nanos,
        currency=estimate.currency,
        price_version=estimate.price_version,
    )


def budget_message(budget: Budget) -> budget_pb2.Budget:
    """A budget as it is."""
    message = budget_pb2.Budget(
        name=f"budgets/{budget.id}",
        session=f"sessions/{budget.session}" if budget.session else "",
        limit_nanos=budget.limit_nanos,
        limit_tokens=budget.limit_tokens,
        spent_nanos=budget.spent_nanos,
        spent_tokens=budget.spent_tokens,
        reserved_nanos=budget.reserved_nanos,
        reserved_tokens=budget.reserved_tokens,
    )
    message.create_time.FromDatetime(budget.create_time)
    message.update_time.FromDatetime(budget.update_time)
    return message


def questions_request(questions: Sequence[str]) -> embedding.EmbedTextsRequest:
    """Embeds questions; those that are longer than the model reads are cut."""
    return embedding.EmbedTextsRequest(
        model=EMBEDDING_MODEL,
        texts=questions,
        input_kind=embedding.INPUT_KIND_QUERY,
        truncate=True,
    )


def sentences_request(texts: Sequence[str]) -> embedding.EmbedTextsRequest:
    """Embeds the sentences of passages; those beyond what the model reads are left out."""
    return embedding.EmbedTextsRequest(
        model=EMBEDDING_MODEL,
        texts=texts,
        input_kind=embedding.INPUT_KIND_PASSAGE,
        truncate=True,
        include_sentences=True,
    )


def question_vectors(response: embedding.EmbedTextsResponse) -> list[Vector]:
    """The vectors of the texts that were embedded."""
    return [np.frombuffer(one.vector.packed, dtype="<f4") for one in response.embeddings]


def embedded_sentences(response: embedding.EmbedTextsResponse) -> list[Sentences | None]:
    """The sentences of each text that was embedded."""
    return [sentences_value(text.sentences) for text in response.embeddings]
