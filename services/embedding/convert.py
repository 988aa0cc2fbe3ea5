"""Between the contract's messages and the engine's values."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ragmesh.api.embedding.v1 import embedding_model_pb2, vector_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.errors import InvalidVector
from engine.models.encoder import Encoder
from engine.models.model_dir import Kind
from engine.types import Sentences, Vector
from services.embedding.core import Embedded

KINDS: dict[int, Kind] = {
    pb.INPUT_KIND_UNSPECIFIED: "passage",
    pb.INPUT_KIND_QUERY: "query",
    pb.INPUT_KIND_PASSAGE: "passage",
}


def vector_message(vector: Vector) -> vector_pb2.Vector:
    """A vector in its packed form."""
    return vector_pb2.Vector(packed=np.ascontiguousarray(vector, dtype="<f4").tobytes())


def vector_value(message: vector_pb2.Vector, field: str) -> Vector:
    """A vector in either form as float32. Raises InvalidVector when it is empty, not finite or of
    norm zero; its length is checked against a collection elsewhere."""
    if message.WhichOneof("form") == "packed":
        if len(message.packed) % 4:
            raise InvalidVector(
                f"{field}.packed has {len(message.packed)} bytes; float32 values take 4 each.",
                field=field,
                metadata={"field": field, "bytes": len(message.packed)},
            )
        vector = np.frombuffer(message.packed, dtype="<f4").astype(np.float32, copy=False)
    else:
        vector = np.asarray(message.dense.values, dtype=np.float32)
    if vector.size == 0:
        raise InvalidVector(f"{field} is empty.", field=field, metadata={"field": field})
    # A sum of squares is NaN or infinite if any value is, and zero for the zero vector only.
    norm = float(np.dot(vector, vector))
    if not np.isfinite(norm) or norm == 0.0:
        what = "is the zero vector" if norm == 0.0 else "has values that are not finite"
        raise InvalidVector(f"{field} {what}.", field=field, metadata={"field": field})
    return vector


def sentence_messages(sentences: Sentences | None) -> Iterable[vector_pb2.SentenceVector]:
    """The sentences of a text."""
    if sentences is None:
        return
    for (start, end), vector in zip(sentences.spans.tolist(), sentences.vectors, strict=True):
        yield vector_pb2.SentenceVector(
            span=vector_pb2.TextSpan(start=start, end=end), int8_vector=vector.tobytes()
        )


def sentences_value(messages: Iterable[vector_pb2.SentenceVector]) -> Sentences | None:
    """The sentences of a text; None for none."""
    listed = list(messages)
    if not listed:
        return None
    spans = np.array([(m.span.start, m.span.end) for m in listed], dtype=np.int32)
    vectors = np.stack([np.frombuffer(m.int8_vector, dtype=np.int8) for m in listed])
    return Sentences(spans, vectors)


def embed_response(embedded: Embedded) -> pb.EmbedTextsResponse:
    """The answer of EmbedTexts."""
    response = pb.EmbedTextsResponse(fingerprint=embedded.fingerprint)
    for text, done in zip(embedded.texts, embedded.done, strict=True):
        response.embeddings.add(
            vector=vector_message(done.result.vector),
            tokens=text.tokens,
            truncated=text.truncated,
            sentences=sentence_messages(done.result.sentences),
        )
    response.timings.tokenize_ms = embedded.tokenize_ms
    response.timings.queue_wait_ms = max(d.queue_wait_ms for d in embedded.done)
    response.timings.inference_ms = sum({d.batch: d.inference_ms for d in embedded.done}.values())
    return response


def model_message(model_id: str, encoder: Encoder) -> embedding_model_pb2.EmbeddingModel:
    """A model as listed."""
    return embedding_model_pb2.EmbeddingModel(
        name=f"embeddingModels/{model_id}",
        display_name=encoder.name,
        dimensions=encoder.dimensions,
        tokens_max=encoder.tokens_max,
        fingerprint=encoder.fingerprint.text,
        provider=encoder.provider,
        precision=encoder.fingerprint.precision,
    )
