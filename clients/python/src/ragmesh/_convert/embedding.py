"""Messages of the embedding service."""

from __future__ import annotations

from collections.abc import Iterable

from ragmesh._errors import FingerprintMismatch
from ragmesh._types import embedding as types
from ragmesh._vectors import Vector
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
        timings=types.EmbedTimings(
            tokenize_ms=sum(p.timings.tokenize_ms for p in parts),
            queue_wait_ms=max(p.timings.queue_wait_ms for p in parts),
            inference_ms=sum(p.timings.inference_ms for p in parts),
        ),
    )


def embedding(message: embedding_service_pb2.TextEmbedding) -> types.Embedding:
    return types.Embedding(
        vector=vector(message.vector) or Vector(b""),
        tokens=message.tokens,
        truncated=message.truncated,
        sentences=sentences(message.sentences),
    )


def model(message: embedding_model_pb2.EmbeddingModel) -> types.EmbeddingModel:
    return types.EmbeddingModel(
        name=message.name,
        display_name=message.display_name,
        dimensions=message.dimensions,
        tokens_max=message.tokens_max,
        fingerprint=message.fingerprint,
        provider=message.provider,
        precision=message.precision,
    )
