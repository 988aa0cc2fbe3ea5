"""Vectors and sentences as bytes.

A vector is its float32 values, little-endian. Sentences are a header of three little-endian
uint32 (layout version 1, sentences n, dimensions d), the spans as int32 of shape (n, 2), then the
vectors as int8 of shape (n, d).
"""

from __future__ import annotations

import struct

import numpy as np

from engine.errors import DataLoss
from engine.types import Sentences, Vector

_HEADER = struct.Struct("<III")
_LAYOUT = 1


def pack_vector(vector: Vector | None) -> bytes | None:
    """Shape (dimensions,) to 4 bytes a dimension."""
    return None if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()


def unpack_vector(data: bytes | None) -> Vector | None:
    """A read-only view on the bytes."""
    return None if data is None else np.frombuffer(data, dtype="<f4")


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
