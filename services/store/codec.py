"""Vectors, sparse vectors, sentences and token vectors as bytes.

A vector is its float32 values, little-endian. A sparse vector is its indices, as uint32, then as
many values, as float32, both little-endian. Sentences are a header of three little-endian
uint32 (layout version 1, sentences n, dimensions d), the spans as int32 of shape (n, 2), then the
vectors as int8 of shape (n, d). Token vectors are a header of two (layout version 1, dimensions d)
and int8 of shape (tokens, d).
"""

from __future__ import annotations

import struct

import numpy as np

from engine.errors import DataLoss
from engine.types import Sentences, SparseVector, TokenVectors, Vector

_HEADER = struct.Struct("<III")
_TOKEN_HEADER = struct.Struct("<II")
_LAYOUT = 1


def pack_vector(vector: Vector | None) -> bytes | None:
    """Shape (dimensions,) to 4 bytes a dimension."""
    return None if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()


def unpack_vector(data: bytes | None) -> Vector | None:
    """A read-only view on the bytes."""
    return None if data is None else np.frombuffer(data, dtype="<f4")


def pack_sparse(vector: SparseVector | None) -> bytes | None:
    """8 bytes an entry."""
    if vector is None:
        return None
    indices = np.ascontiguousarray(vector.indices, dtype="<u4").tobytes()
    return indices + np.ascontiguousarray(vector.values, dtype="<f4").tobytes()


def unpack_sparse(data: bytes | None) -> SparseVector | None:
    """Read-only views on the bytes. Raises DataLoss where they are no whole entries."""
    if data is None:
        return None
    if not data or len(data) % 8:
        raise DataLoss("a stored sparse vector is not a whole number of entries")
    count = len(data) // 8
    indices = np.frombuffer(data, dtype="<u4", count=count)
    return SparseVector(indices, np.frombuffer(data, dtype="<f4", offset=4 * count))


def pack_sentences(sentences: Sentences | None) -> bytes | None:
    """See the layout above."""
    if sentences is None:
        return None
    count, dimensions = sentences.vectors.shape
    return b"".join(
        (
            _HEADER.pack(_LAYOUT, count, dimensions),
            np.ascontiguousarray(sentences.spans, dtype="<i4").tobytes(),
            np.ascontiguousarray(sentences.vectors, dtype="i1").tobytes(),
        )
    )


def unpack_sentences(data: bytes | None) -> Sentences | None:
    """Read-only views on the bytes. Raises DataLoss where they do not fit their header."""
    if data is None:
        return None
    if len(data) < _HEADER.size:
        raise DataLoss("stored sentences are shorter than their header")
    layout, count, dimensions = _HEADER.unpack_from(data)
    middle = _HEADER.size + 8 * count
    if layout != _LAYOUT or len(data) != middle + count * dimensions:
        raise DataLoss("stored sentences do not match their header")
    spans = np.frombuffer(data, dtype="<i4", count=2 * count, offset=_HEADER.size)
    vectors = np.frombuffer(data, dtype="i1", offset=middle)
    return Sentences(spans.reshape(count, 2), vectors.reshape(count, dimensions))


def pack_tokens(vectors: TokenVectors | None) -> bytes | None:
    """See the layout above."""
    if vectors is None:
        return None
    data = np.ascontiguousarray(vectors, dtype="i1").tobytes()
    return _TOKEN_HEADER.pack(_LAYOUT, vectors.shape[1]) + data


def unpack_tokens(data: bytes | None) -> TokenVectors | None:
    """A read-only view on the bytes. Raises DataLoss where they do not fit their header."""
    if data is None:
        return None
    if len(data) < _TOKEN_HEADER.size:
        raise DataLoss("stored token vectors are shorter than their header")
    layout, dimensions = _TOKEN_HEADER.unpack_from(data)
    if layout != _LAYOUT or not dimensions or (len(data) - _TOKEN_HEADER.size) % dimensions:
        raise DataLoss("stored token vectors do not match their header")
    return np.frombuffer(data, "i1", offset=_TOKEN_HEADER.size).reshape(-1, dimensions)
