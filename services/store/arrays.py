"""Columns of a batch as PostgreSQL takes arrays in binary: a header, and each value after its
length. Who has a column in this form saves psycopg from looking at each of its values.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Dumper

_HEADER = struct.Struct("!5i")
"""Dimensions, whether there are nulls, the values' type; length and first index of the one."""

_NULL = b"\xff\xff\xff\xff"

_INT4, _BYTEA, _TEXT = 23, 17, 25


class _Array:
    """An array in PostgreSQL's binary form."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class TextArray(_Array):
    """`text[]`."""


class ByteaArray(_Array):
    """`bytea[]`."""


class IntArray(_Array):
    """`int[]`."""


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: _Array) -> Buffer:
        return obj.data


class _TextArrayDumper(_ArrayDumper):
    oid = 1009


class _ByteaArrayDumper(_ArrayDumper):
    oid = 1001


class _IntArrayDumper(_ArrayDumper):
    oid = 1007


psycopg.adapters.register_dumper(TextArray, _TextArrayDumper)
psycopg.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
psycopg.adapters.register_dumper(IntArray, _IntArrayDumper)


@lru_cache(maxsize=8)
def no_texts(count: int) -> TextArray:
    """So many nulls."""
    return TextArray(_HEADER.pack(1, 1, _TEXT, count, 1) + _NULL * count)


@lru_cache(maxsize=8)
def no_bytes(count: int) -> ByteaArray:
    """So many nulls."""
    return ByteaArray(_HEADER.pack(1, 1, _BYTEA, count, 1) + _NULL * count)


@lru_cache(maxsize=8)
def zeros(count: int) -> IntArray:
    """So many zeros."""
    return IntArray(_HEADER.pack(1, 0, _INT4, count, 1) + struct.pack("!2i", 4, 0) * count)
