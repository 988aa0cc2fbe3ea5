"""Between the contract's messages and the service's values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.rpc import status_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.answers.evidence import Citation, Passage
from engine.types import Sentences, Vector
from services.generation.backend import (
    Abstention,
    Backend,
    Delta,
    Progress,
    Started,
    Task,
    Written,
)
from services.rpc.values import sentences_value

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


def task_value(request: Request) -> Task:
    """What a request asks for."""
    return Task(
        question=request.question,
        passages=[passage_value(p) for p in request.passages],
        output_tokens_max=request.output_tokens_max or None,
        temperature=request.temperature if request.HasField("temperature") else None,
        confidence_min=request.confidence_min if request.HasField("confidence_min") else None,
    )


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
    return pb.GenerateTextResponse(
        text=written.text,
        citations=[citation_message(c, request) for c in written.citations],
        confidence=written.confidence,
        abstention_reason=_ABSTENTIONS[written.abstention],
        usage=citation_pb2.Usage(
            input_tokens=written.input_tokens, output_tokens=written.output_tokens
        ),
        cut=written.cut,
        generate_ms=generate_ms,
    )


def event(progress: Progress, request: Request, elapsed_ms: float) -> pb.StreamGenerateTextResponse:
    """One event, not numbered yet."""
    match progress:
        case Started():
            return pb.StreamGenerateTextResponse(started=pb.GenerationStarted(model=request.model))
        case Delta(text):
            return pb.StreamGenerateTextResponse(delta=pb.TextDelta(text=text))
        case Citation():
            return pb.StreamGenerateTextResponse(citation=citation_message(progress, request))
        case Written():
            return pb.StreamGenerateTextResponse(finished=response(progress, request, elapsed_ms))


def failed(status: status_pb2.Status) -> pb.StreamGenerateTextResponse:
    """The last event of a failure."""
    return pb.StreamGenerateTextResponse(failed=status)


def model_message(model_id: str, backend: Backend) -> pb.GenerationModel:
    """A model as listed."""
    return pb.GenerationModel(
        name=f"generationModels/{model_id}",
        display_name=backend.display_name,
        backend=_BACKENDS[backend.kind],
        upstream_model=backend.upstream_model,
    )


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
