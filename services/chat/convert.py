"""Between the contract's messages and the service's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from google.rpc import status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.answers.evidence import Citation, Passage
from engine.types import Span
from services.chat.core import (
    CONTEXT_TOKENS_DEFAULT,
    PASSAGES_DEFAULT,
    Ask,
    Context,
    Found,
)

Request = pb.AskQuestionRequest | pb.StreamAnswerRequest

COUNTING_MODEL = "embeddingModels/default"


def ask_value(request: Request) -> Ask:
    """What a request asks for, with the defaults of the contract."""
    return Ask(
        question=request.question,
        collections=tuple(request.collections),
        passages_max=request.passages_max or PASSAGES_DEFAULT,
        context_tokens_max=request.context_tokens_max or CONTEXT_TOKENS_DEFAULT,
    )


def search_request(
    request: Request, ask: Ask, collection: str
) -> retrieval.SearchCollectionRequest:
    """The search of one collection. The mode is left to it: hybrid where it has a model, else by
    words."""
    return retrieval.SearchCollectionRequest(
        collection=collection,
        text=ask.question,
        filter=request.filter if request.HasField("filter") else None,
        limit=ask.passages_max,
        include_sentences=True,
        include_parents=True,
        min_watermark=request.min_watermarks.get(collection, ""),
    )


def found_values(response: retrieval.SearchCollectionResponse, collection: str) -> Sequence[Found]:
    """The passages of a search, the best first: where one is a part of a larger passage, that one,
    once, as the best of its parts."""
    # A search by words alone gives no hit a dense score, a fused one does.
    fused = any(hit.HasField("dense_score") for hit in response.hits)
    found: dict[tuple[str, str | int], Found] = {}
    for hit in response.hits:
        point, whole = hit.point, hit.parent if hit.HasField("parent") else hit.point
        passage = Passage(
            *(collection, point.id, point.document, point.passage_index), whole.text, hit.score
        )
        start = whole.span.start if point.document else 0
        key = (point.document, start) if hit.HasField("parent") else ("", point.id)
        found.setdefault(key, Found(passage, start, fused, whole))
    return list(found.values())


def count_request(texts: Sequence[str]) -> embedding.CountTokensRequest:
    """The count of texts in the tokens of the mesh's default embedding model."""
    return embedding.CountTokensRequest(model=COUNTING_MODEL, texts=texts)


def passage_message(found: Found) -> citation_pb2.SourcePassage:
    """A passage as the generation service takes it; it may be only the beginning of the hit's."""
    passage, end = found.passage, len(found.passage.text)
    whole = cast(point_pb2.Point | retrieval.ParentPassage, found.wire)
    return citation_pb2.SourcePassage(
        collection=passage.collection,
        point_id=passage.point_id,
        document=passage.document,
        passage_index=passage.passage_index,
        text=passage.text,
        span=vector_pb2.TextSpan(start=found.start, end=found.start + end),
        score=passage.score,
        sentences=[s for s in whole.sentences if s.span.end <= end],
    )


def generate_request(model: str, ask: Ask, context: Context) -> generation.GenerateTextRequest:
    """The request for the whole answer."""
    return generation.GenerateTextRequest(
        model=model,
        question=ask.question,
        passages=[passage_message(found) for found in context.passages],
    )


def stream_request(model: str, ask: Ask, context: Context) -> generation.StreamGenerateTextRequest:
    """The request for the answer as events."""
    return generation.StreamGenerateTextRequest(
        model=model,
        question=ask.question,
        passages=[passage_message(found) for found in context.passages],
    )


def citation_value(citation: citation_pb2.Citation) -> Citation:
    """A citation as it came, its span counted in the document's stored text."""
    return Citation(
        citation.collection,
        citation.point_id,
        citation.document,
        citation.passage_index,
        Span(citation.span.start, citation.span.end),
        citation.quote,
        Span(citation.answer_span.start, citation.answer_span.end),
        citation.score,
    )


def failed(status: status_pb2.Status) -> pb.StreamAnswerResponse:
    """The last event of a failure."""
    return pb.StreamAnswerResponse(failed=status)


def started(model: str, context: Context) -> pb.StreamAnswerResponse:
    """The first event."""
    return pb.StreamAnswerResponse(
        started=pb.AnswerStarted(generation_model=model, context_passages=len(context.passages))
    )


def nothing_found() -> generation.GenerateTextResponse:
    """What a model would say without any passage."""
    return generation.GenerateTextResponse(
        abstention_reason=citation_pb2.ABSTENTION_REASON_NO_PASSAGE
    )


def answer(
    ask: Ask,
    model: str,
    context: Context,
    written: generation.GenerateTextResponse,
    holds: Sequence[bool],
    timings: pb.AnswerTimings,
) -> pb.Answer:
    """The answer with the citations that hold. Its confidence shrinks by the share that does not;
    an answer of which nothing holds is an abstention."""
    answer = pb.Answer(
        question=ask.question,
        abstention_reason=written.abstention_reason,
        timings=timings,
        usage=written.usage,
        generation_model=model,
        context_passages=len(context.passages),
    )
    if written.abstention_reason:
        return answer
    kept = [citation for citation, ok in zip(written.citations, holds, strict=True) if ok]
    if not kept:
        answer.abstention_reason = citation_pb2.ABSTENTION_REASON_UNVERIFIED
        return answer
    answer.text = written.text
    answer.citations.extend(kept)
    answer.confidence = written.confidence * len(kept) / len(written.citations)
    return answer
