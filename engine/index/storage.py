"""How the vectors of sealed segments are kept: what a row costs, and what its scores are of.

A collection's scores are of one representation, its *precise* one: the float32 values as they
came, or the nearest float16 to each. Buffers hold the values of that representation too, so a row
scores the same before and after it is sealed. There may be a *coarse* one beside, a byte a value.
Scans read it first, and then the precise rows that it does not rule out: they find the same in a
third of the time. Graphs are walked by it, and what the walk finds is scored anew by the precise
rows. PostgreSQL keeps the values as they came.

Arrays: `vectors` (n, d) float32 or float16, precise; `codes` (n, d) and `scales` (n) float32
beside: a coarse row is its codes times its scale. They are there with int8, and with float32 in
buffers and in segments of up to `SCANNED_ROWS_MAX` rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import Vectors, encode_rows

from engine.errors import InvalidVector
from engine.types import Matrix, Vector

FLOAT16_MAX: Final = 65_504.0
"""The largest value that float16 holds."""

SCANNED_ROWS_MAX: Final = 131_072
"""Larger segments of float32 have no codes, which are a quarter more memory."""

_PART_ROWS: Final = 4_096


class Storage(StrEnum):
    """How a collection keeps the vectors of its segments: 5, 2 or 3 bytes a value, of which a walk
    reads 1, 2 or 1; large segments of float32 have 4, and read them."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the precise rows."""
        return np.dtype(np.float32 if self is Storage.FLOAT32 else np.float16)

    def has_codes(self, rows: int) -> bool:
        """Whether a segment of so many rows has a coarse representation."""
        small = self is Storage.FLOAT32 and rows <= SCANNED_ROWS_MAX
        return small or self is Storage.INT8


def precise_rows(storage: Storage, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows in their precise representation, of any shape.

    What is beyond the largest float16 becomes that: `check_range` refuses it where it comes in,
    and an older row of a collection that changed its mind is kept as near as can be.
    """
    if storage is Storage.FLOAT32:
        return np.ascontiguousarray(rows, np.float32)
    rounded: NDArray[np.float16] = np.clip(rows, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    return rounded


def precise_vectors(
    storage: Storage, vectors: Sequence[Vector | None] | Matrix
) -> Sequence[Vector | None] | Matrix:
    """Float32 vectors that are compared in place of those that came; None stays None."""
    if storage is Storage.FLOAT32:
        return vectors
    if isinstance(vectors, np.ndarray):
        return precise_rows(storage, vectors).astype(np.float32)
    return [
        None if one is None else precise_rows(storage, one).astype(np.float32) for one in vectors
    ]


def check_range(storage: Storage, vector: Vector | Matrix, field: str) -> None:
    """Raises InvalidVector for a prepared vector with a value that its collection cannot hold."""
    if storage is Storage.FLOAT32:
        return
    largest = float(np.abs(vector).max(initial=0.0))
    if largest > FLOAT16_MAX:
        raise InvalidVector(
            f"the vector holds {largest:g}, and a collection that stores vectors as {storage} "
            f"holds at most {FLOAT16_MAX:g}; scale the vectors or store them as float32",
            field=field,
            metadata={"value": largest, "value_max": FLOAT16_MAX},
        )


def coarse_rows(rows: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes and scales of precise rows (n, d): each row by its own largest value. Equal rows give
    equal codes on every machine."""
    return encode_rows(Vectors(rows))


def parts(rows: int) -> Iterator[slice]:
    """So many rows at a time that what is computed of them between takes little memory."""
    for start in range(0, rows, _PART_ROWS):
        yield slice(start, min(start + _PART_ROWS, rows))


class Kept:
    """The vectors of rows as searches read them: made once, it costs no row and copies none.

    `precise` is what scores are of, `coarse` what is read first, None where there is nothing.
    """

    __slots__ = ("coarse", "precise", "storage")

    def __init__(
        self,
        vectors: NDArray[Any],
        codes: NDArray[np.int8] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> None:
        """Over arrays of one segment, or of a buffer. Raises ValueError where they do not fit."""
        self.precise = Vectors(vectors)
        self.coarse: Vectors | None = None
        self.storage = Storage.FLOAT32 if vectors.dtype == np.float32 else Storage.FLOAT16
        if codes is not None:
            if scales is None or codes.shape != vectors.shape:
                raise ValueError("the codes of a segment do not fit its vectors")
            self.coarse = Vectors(codes, scales)
            if self.storage is Storage.FLOAT16:
                self.storage = Storage.INT8

    @classmethod
    def copied(cls, storage: Storage, rows: NDArray[Any]) -> Kept:
        """A copy in memory of rows (n, d) as a segment would keep them."""
        vectors = np.empty(rows.shape, storage.dtype)
        for part in parts(len(rows)):
            vectors[part] = precise_rows(storage, rows[part])
        if not storage.has_codes(len(rows)):
            return cls(vectors)
        codes = np.empty(rows.shape, np.int8)
        scales = np.empty(len(rows), np.float32)
        for part in parts(len(rows)):
            codes[part], scales[part] = coarse_rows(vectors[part])
        return cls(vectors, codes, scales)

    @property
    def nbytes(self) -> int:
        """Of all its arrays, in memory or mapped."""
        own = self.precise.values.nbytes
        if self.coarse is not None and self.coarse.scales is not None:
            own += self.coarse.values.nbytes + self.coarse.scales.nbytes
        return own
