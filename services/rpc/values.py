"""Values that several services say the same way: vectors, sentences, payloads and times, between
the contract's messages and the engine's values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

import numpy as np
from google.protobuf import struct_pb2, timestamp_pb2
from ragmesh.api.embedding.v1 import vector_pb2

from engine.errors import InvalidVector
from engine.index import sparse
from engine.types import JsonValue, Payload, Sentences, SparseVector, TokenVectors, Vector

_PACKED = np.dtype("<f4")


def vector_message(vector: Vector) -> vector_pb2.Vector:
    """A vector in its packed form."""
    return vector_pb2.Vector(packed=np.ascontiguousarray(vector, dtype="<f4").tobytes())


def vector_value(message: vector_pb2.Vector, field: str) -> Vector:
    """A vector in either form as float32. Raises InvalidVector when it is empty, not finite or of
    norm zero; its length is checked against a collection elsewhere."""
    if message.WhichOneof("form") == "packed":
        packed = message.packed  # a copy each time
        if len(packed) % 4:
            raise InvalidVector(
                f"{field}.packed has {len(packed)} bytes; float32 values take 4 each.",
                field=field,
                metadata={"field": field, "bytes": len(packed)},
            )
        vector = np.frombuffer(packed, _PACKED).astype(np.float32, copy=False)
    else:
        vector = np.asarray(message.dense.values, dtype=np.float32)
    if vector.size == 0:
        raise InvalidVector(f"{field} is empty.", field=field, metadata={"field": field})
    # A sum of squares is NaN or infinite if any value is, and zero for the zero vector only.
    norm = float(np.dot(vector, vector))
    if not math.isfinite(norm) or norm == 0.0:
        what = "is the zero vector" if norm == 0.0 else "has values that are not finite"
        raise InvalidVector(f"{field} {what}.", field=field, metadata={"field": field})
    return vector


def sparse_vector_message(vector: SparseVector) -> vector_pb2.SparseVector:
    """A sparse vector, its indices ascending."""
    return vector_pb2.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def sparse_vector_value(message: vector_pb2.SparseVector, field: str) -> SparseVector:
    """A sparse vector with its indices in order. Raises InvalidVector as `sparse.prepare` does."""
    indices = np.array(message.indices, np.uint32)
    return sparse.prepare(indices, np.array(message.values, np.float32), field)


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


def token_vectors_message(vectors: TokenVectors | None) -> vector_pb2.TokenVectors | None:
    """The token vectors of a text."""
    if vectors is None:
        return None
    return vector_pb2.TokenVectors(
        dimensions=vectors.shape[1], int8_vectors=np.ascontiguousarray(vectors).tobytes()
    )


def token_vectors_value(message: vector_pb2.TokenVectors) -> TokenVectors:
    """The token vectors of a text, read-only. Raises InvalidVector for bytes that are no whole
    vectors."""
    width = message.dimensions
    if width < 1 or len(message.int8_vectors) % width:
        raise InvalidVector(
            f"token_vectors has {len(message.int8_vectors)} bytes for vectors of {width}.",
            field="token_vectors",
        )
    return np.frombuffer(message.int8_vectors, np.int8).reshape(-1, width)


INTEGER_MAX = 1e21
"""Whole numbers below this are integers. Above it the digits are those of the nearest double, which
nobody gave, and up to 309 of them. JavaScript's limit (ECMA-262, Number::toString)."""


def payload_value(message: struct_pb2.Struct) -> Payload:
    """A payload as plain values. Whole numbers below 1e21 come back as integers, as JSON writes
    them."""
    return {key: _plain(value) for key, value in message.fields.items()}


def _plain(value: struct_pb2.Value) -> JsonValue:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < INTEGER_MAX else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return payload_value(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return None


def payload_message(payload: Payload) -> struct_pb2.Struct | None:
    """A payload as the contract says it."""
    if not payload:
        return None
    message = struct_pb2.Struct()
    message.update(dict(payload))
    return message


def timestamp(value: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A time of the store as the contract says it."""
    if value is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(value)
    return message
