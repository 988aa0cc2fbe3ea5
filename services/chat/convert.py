"""Between the contract's messages and the service's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from google.rpc import status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.memory.v1 import session_pb2
from ragmesh.api.retrieval.v1 import point_pb2, search_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.answers.evidence import Citation, Passage
from engine.answers.rewrite import Turn
from engine.answers.verify import Fault
from engine.types import Span
from services.chat.core import CONTEXT_TOKENS_DEFAULT, PASSAGES_DEFAULT, Ask, Context
from services.chat.grounding import Grounded
from services.chat.siblings import Found

Request = pb.AskQuestionRequest | pb.StreamAnswerRequest

_WITHHOLD = pb.UNSUPPORTED_POLICY_WITHHOLD
_FAULTS: Mapping[Fault, pb.SupportFault.ValueType] = {
    "NO_EVIDENCE": pb.SUPPORT_FAULT_NO_EVIDENCE,
    "NUMBER": pb.SUPPORT_FAULT_NUMBER,
    "DATE": pb.SUPPORT_FAULT_DATE,
    "NAME": pb.SUPPORT_FAULT_NAME,
    "NEGATION": pb.SUPPORT_FAULT_NEGATION,
}
COUNTING_MODEL = "embeddingModels/default"
HISTORY_TOKENS_MAX = 2_000


def ask_value(request: Request) -> Ask:
    """What a request asks for, with the defaults of the contract."""
    return Ask(
        question=request.question,
        collections=tuple(request.collections),
        passages_max=request.passages_max or PASSAGES_DEFAULT,
        context_tokens_max=request.context_tokens_max or CONTEXT_TOKENS_DEFAULT,
        unsupported="withhold" if request.unsupported == _WITHHOLD else "flag",
        turns=tuple(Turn(turn.question, turn.answer) for turn in request.history),
        session=request.session,
        confidence_min=request.confidence_min if request.HasField("confidence_min") else None,
    )


def search_request(
    request: Request, ask: Ask, collection: str, query: str
) -> retrieval.SearchCollectionRequest:
    """The search of one collection. The mode is left to it: hybrid where it has a model, else by
    words. Fused by scores, then reranked by sentences, or as the collection has it: what was best
    where these were chosen, on SciFact's training claims and Cranfield (engine/index)."""
    return retrieval.SearchCollectionRequest(
        collection=collection,
        text=query,
        filter=request.filter if request.HasField("filter") else None,
        limit=ask.passages_max,
        fusion=retrieval.RankFusion(method=search_pb2.FUSION_METHOD_SCORE),
        rerank=search_pb2.Rerank(),
        include_sentences=True,
        include_parents=True,
        min_watermark=request.min_watermarks.get(collection, ""),
    )


def found_values(response: retrieval.SearchCollectionResponse, collection: str) -> Sequence[Found]:
    """The passages of a search, the best first: where one is a part of a larger passage, that one,
    once, as the best of its parts. Their scores are the reranking's where it looked at all."""
    reranked = all(hit.HasField("rerank_score") for hit in response.hits)
    found: dict[tuple[str, str | int], Found] = {}
    for hit in response.hits:
        point, whole = hit.point, hit.parent if hit.HasField("parent") else hit.point
        passage = Passage(
            *(collection, point.id, point.document, point.passage_index),
            whole.text,
            hit.rerank_score if reranked else hit.score,
        )
        start = whole.span.start if point.document else 0
        key = (point.document, start) if hit.HasField("parent") else ("", point.id)
        dense = hit.dense_score if hit.HasField("dense_score") else None
        found.setdefault(key, Found(passage, start, dense, whole))
    return list(found.values())


def history_request(session: str, question: str) -> memory.GetSessionContextRequest:
    """What of a session a question may lean on: the newest turns, and older ones that bear on it.
    No summary: the rules look for names and things that were said."""
    return memory.GetSessionContextRequest(
        name=session,
        question=question,
        tokens_max=HISTORY_TOKENS_MAX,
        older=memory.OLDER_TURNS_RELEVANT,
    )


def turns(response: memory.GetSessionContextResponse) -> list[Turn]:
    """What people asked, each with what was answered to it; the oldest first."""
    found: list[Turn] = []
    for one in response.messages:
        message = one.message
        if message.role == session_pb2.SessionMessage.ROLE_USER:
            found.append(Turn(message.text))
        elif message.role == session_pb2.SessionMessage.ROLE_ASSISTANT and found:
            found[-1] = Turn(found[-1].question, message.text)
    return found


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
        question=context.question,
        passages=[passage_message(found) for found in context.passages],
        confidence_min=ask.confidence_min,
        session=ask.session,
    )


def stream_request(model: str, ask: Ask, context: Context) -> generation.StreamGenerateTextRequest:
    """The request for the answer as events."""
    return generation.StreamGenerateTextRequest(
        model=model,
        question=context.question,
        passages=[passage_message(found) for found in context.passages],
        confidence_min=ask.confidence_min,
        session=ask.session,
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
    grounded: Grounded,
    timings: pb.AnswerTimings,
) -> pb.Answer:
    """The answer with the citations that hold. Its confidence shrinks by the share of those that
    do not, and by the share of the text that nothing supports; an answer of which nothing holds is
    an abstention."""
    answer = pb.Answer(
        question=ask.question,
        abstention_reason=written.abstention_reason,
        timings=timings,
        usage=written.usage,
        generation_model=model,
        context_passages=len(context.passages),
        standalone_question="" if context.question == ask.question else context.question,
        parts=context.parts,
        requeried=context.requeried,
        withheld_sentences=grounded.withheld,
    )
    if written.abstention_reason:
        answer.confidence = written.confidence
        return answer
    if not grounded.citations or not grounded.text:
        answer.abstention_reason = citation_pb2.ABSTENTION_REASON_UNVERIFIED
        return answer
    answer.text = grounded.text
    answer.citations.extend(citation_message(citation) for citation in grounded.citations)
    answer.sentences.extend(
        pb.AnswerSentence(
            span=vector_pb2.TextSpan(start=sentence.span.start, end=sentence.span.end),
            supported=not sentence.faults,
            faults=[_FAULTS[fault] for fault in sentence.faults],
            citation_indexes=sentence.citations,
            coverage=sentence.coverage,
        )
        for sentence in grounded.sentences
    )
    held = min(1.0, len(grounded.citations) / max(1, len(written.citations)))
    answer.confidence = written.confidence * held * grounded.supported
    return answer


def citation_message(citation: Citation) -> citation_pb2.Citation:
    """A citation whose span counts in the document's stored text."""
    return citation_pb2.Citation(
        collection=citation.collection,
        point_id=citation.point_id,
        document=citation.document,
        passage_index=citation.passage_index,
        span=vector_pb2.TextSpan(start=citation.span.start, end=citation.span.end),
        quote=citation.quote,
        answer_span=vector_pb2.TextSpan(
            start=citation.answer_span.start, end=citation.answer_span.end
        ),
        score=citation.score,
    )
