"""Between the contract's messages and the engine's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragmesh.api.embedding.v1 import embedding_model_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.models.model_dir import Kind, Task
from services.embedding.core import Embedded
from services.embedding.loader import Description
from services.embedding.rerank import Reranked
from services.mesh.model_queue import Done
from services.rpc.call import Lane
from services.rpc.values import sentence_messages, token_vectors_message, vector_message

KINDS: dict[int, Kind] = {
    pb.INPUT_KIND_UNSPECIFIED: "passage",
    pb.INPUT_KIND_QUERY: "query",
    pb.INPUT_KIND_PASSAGE: "passage",
}

TASKS: dict[Task | None, embedding_model_pb2.ModelTask.ValueType] = {
    None: embedding_model_pb2.MODEL_TASK_UNSPECIFIED,
    "embed": embedding_model_pb2.MODEL_TASK_EMBED,
    "rerank": embedding_model_pb2.MODEL_TASK_RERANK,
}

LANES: dict[Lane, pb.Lane.ValueType] = {
    "interactive": pb.LANE_INTERACTIVE,
    "bulk": pb.LANE_BULK,
}


def embed_response(embedded: Embedded, lane: Lane) -> pb.EmbedTextsResponse:
    """The answer of EmbedTexts."""
    response = pb.EmbedTextsResponse(fingerprint=embedded.fingerprint)
    for text in embedded.texts:
        response.embeddings.add(
            vector=vector_message(text.vector),
            tokens=text.tokens,
            truncated=text.truncated,
            sentences=sentence_messages(text.sentences),
            token_vectors=token_vectors_message(text.token_vectors),
        )
    _fill_timings(
        response.timings,
        embedded.done,
        lane,
        tokenize_ms=embedded.tokenize_ms,
        cached_texts=embedded.cached_texts,
    )
    return response


def rerank_response(found: Reranked, asked: int, lane: Lane) -> pb.RerankPassagesResponse:
    """The answer of RerankPassages to `asked` passages."""
    response = pb.RerankPassagesResponse(
        partial=found.partial,
        passages_scored=len(found.scored),
        fingerprint=found.fingerprint,
        query_truncated=found.query_truncated,
    )
    for index, score in zip(found.order, found.scores, strict=True):
        one = found.scored[index]
        response.passages.add(
            index=index, score=score, raw_score=one.raw, windows=one.windows, tokens=one.tokens
        )
    for index in range(len(found.scored), asked):
        response.passages.add(index=index)
    _fill_timings(response.timings, found.done, lane, tokenize_ms=found.tokenize_s * 1000)
    return response


def model_message(model: Description) -> embedding_model_pb2.EmbeddingModel:
    """A model as listed."""
    offered = model.dimensions_offered
    every = len(offered) > 1 and len(offered) == model.dimensions
    return embedding_model_pb2.EmbeddingModel(
        name=f"embeddingModels/{model.id}",
        display_name=model.id,
        dimensions=model.dimensions,
        tokens_max=model.tokens_max,
        fingerprint=model.fingerprint,
        provider=model.provider,
        precision=model.precision,
        task=TASKS[model.task],
        loaded=model.loaded,
        memory_kib=model.memory_bytes >> 10,
        dimensions_offered=[] if every else sorted(offered),
    )


def _fill_timings(
    timings: pb.EmbedTimings,
    done: Sequence[Done[Any]],
    lane: Lane,
    *,
    tokenize_ms: float,
    cached_texts: int = 0,
) -> None:
    """Fills `timings`; `done` is what the queue said of each text that went through it."""
    timings.tokenize_ms = tokenize_ms
    timings.lane = LANES[lane]
    timings.cached_texts = cached_texts
    if not done:
        return
    batches = {one.batch: one for one in done}.values()
    padded = sum(one.batch_padded_tokens for one in batches)
    timings.queue_wait_ms = max(one.queue_wait_ms for one in done)
    timings.inference_ms = sum(one.inference_ms for one in batches)
    timings.batch_texts = max(one.batch_texts for one in batches)
    timings.padding_share = 1 - sum(one.batch_tokens for one in batches) / padded
