"""Messages of the embedding service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from ragmesh._errors import FingerprintMismatch
from ragmesh._types import embedding as types
from ragmesh._values import from_enum
from ragmesh._vectors import SparseVector, Vector
from ragmesh.api.embedding.v1 import embedding_model_pb2, embedding_service_pb2, vector_pb2


def span(message: vector_pb2.TextSpan) -> types.TextSpan:
    return types.TextSpan(message.start, message.end)


def to_span(value: types.TextSpan | None) -> vector_pb2.TextSpan | None:
    return None if value is None else vector_pb2.TextSpan(start=value.start, end=value.end)


def vector(message: vector_pb2.Vector) -> Vector | None:
    match message.WhichOneof("form"):
        case "packed":
            return Vector(message.packed)
        case "dense":
            return Vector(list(message.dense.values))
        case _:
            return None


def to_vector(value: Vector | None) -> vector_pb2.Vector | None:
    return None if value is None else vector_pb2.Vector(packed=value.packed)


def sparse_vector(message: vector_pb2.SparseVector) -> SparseVector:
    return SparseVector(message.indices, message.values)


def to_sparse_vector(value: SparseVector | None) -> vector_pb2.SparseVector | None:
    if value is None:
        return None
    return vector_pb2.SparseVector(indices=value.indices, values=value.values)


def sentences(
    messages: Iterable[vector_pb2.SentenceVector],
) -> tuple[types.SentenceVector, ...]:
    return tuple(types.SentenceVector(span(m.span), m.int8_vector) for m in messages)


def to_sentences(
    values: Iterable[types.SentenceVector],
) -> list[vector_pb2.SentenceVector]:
    return [
        vector_pb2.SentenceVector(span=to_span(v.span), int8_vector=v.int8_vector) for v in values
    ]


def embeddings(parts: list[embedding_service_pb2.EmbedTextsResponse]) -> types.Embeddings:
    """Joins the answers of one call's requests, in order."""
    fingerprints = sorted({part.fingerprint for part in parts})
    if len(fingerprints) > 1:
        raise FingerprintMismatch(
            f"The model changed during the call: vectors of {len(fingerprints)} spaces "
            f"({', '.join(fingerprints)}). Call again.",
            metadata={"fingerprints": ",".join(fingerprints)},
        )
    return types.Embeddings(
        embeddings=tuple(embedding(e) for part in parts for e in part.embeddings),
        fingerprint=fingerprints[0],
        timings=timings([part.timings for part in parts]),
    )


def timings(parts: Sequence[embedding_service_pb2.EmbedTimings]) -> types.EmbedTimings:
    """Joins the timings of one call's requests, of which there is one at least. Shares of padding
    are weighed by the time in the model."""
    inference_ms = sum(part.inference_ms for part in parts)
    padding_ms = sum(part.padding_share * part.inference_ms for part in parts)
    lane = from_enum(embedding_service_pb2.Lane.DESCRIPTOR, parts[0].lane)
    return types.EmbedTimings(
        tokenize_ms=sum(part.tokenize_ms for part in parts),
        queue_wait_ms=max(part.queue_wait_ms for part in parts),
        inference_ms=inference_ms,
        batch_texts=max(part.batch_texts for part in parts),
        padding_share=padding_ms / inference_ms if inference_ms else 0.0,
        lane=cast(types.ServedLane, lane),
        cached_texts=sum(part.cached_texts for part in parts),
    )


def embedding(message: embedding_service_pb2.TextEmbedding) -> types.Embedding:
    return types.Embedding(
        vector=vector(message.vector) or Vector(b""),
        tokens=message.tokens,
        truncated=message.truncated,
        sentences=sentences(message.sentences),
        token_vectors=token_vectors(message.token_vectors),
    )


def token_vectors(message: vector_pb2.TokenVectors) -> tuple[bytes, ...]:
    data, width = message.int8_vectors, message.dimensions
    return tuple(data[at : at + width] for at in range(0, len(data), max(1, width)))


def reranking(message: embedding_service_pb2.RerankPassagesResponse) -> types.Reranking:
    return types.Reranking(
        passages=tuple(ranked(passage) for passage in message.passages),
        partial=message.partial,
        passages_scored=message.passages_scored,
        fingerprint=message.fingerprint,
        timings=timings([message.timings]),
        query_truncated=message.query_truncated,
    )


def ranked(message: embedding_service_pb2.RankedPassage) -> types.RankedPassage:
    return types.RankedPassage(
        index=message.index,
        score=message.score if message.HasField("score") else None,
        raw_score=message.raw_score if message.HasField("raw_score") else None,
        windows=message.windows,
        tokens=message.tokens,
    )


def model(message: embedding_model_pb2.EmbeddingModel) -> types.EmbeddingModel:
    task = from_enum(embedding_model_pb2.ModelTask.DESCRIPTOR, message.task)
    return types.EmbeddingModel(
        name=message.name,
        display_name=message.display_name,
        dimensions=message.dimensions,
        tokens_max=message.tokens_max,
        fingerprint=message.fingerprint,
        provider=message.provider,
        precision=message.precision,
        task=cast(types.ModelTask, task),
        loaded=message.loaded,
        memory_kib=message.memory_kib,
        dimensions_offered=tuple(message.dimensions_offered),
    )
