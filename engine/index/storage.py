"""How the vectors of sealed segments are kept: what a row costs, and what its scores are of.

A collection's scores are of one representation, its *precise* one: the float32 values as they
came, or the nearest float16 to each. Buffers hold the values of that representation too, so a row
scores the same before and after it is sealed. With int8 a segment also has a *coarse* one, a byte
a value, that graphs are walked by; what the walk finds is scored anew by the precise rows, and
scans read only these. PostgreSQL keeps the values as they came.

Arrays: `vectors` (n, d) float32 or float16, precise; with int8 `codes` (n, d) and `scales` (n)
float32 beside: a coarse row is its codes times its scale.
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

_PART_ROWS: Final = 4_096


class Storage(StrEnum):
    """How a collection keeps the vectors of its segments: 4, 2 or 3 bytes a value, of which a walk
    reads 4, 2 or 1."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the precise rows."""
        return np.dtype(np.float32 if self is Storage.FLOAT32 else np.float16)


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

    `precise` is what scores are of; `walked` what graphs are walked by, the same object where there
    is nothing coarser.
    """

    __slots__ = ("precise", "storage", "walked")

    def __init__(
        self,
        vectors: NDArray[Any],
        codes: NDArray[np.int8] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> None:
        """Over arrays of one segment, or of a buffer. Raises ValueError where they do not fit."""
        self.precise = Vectors(vectors)
        self.walked = self.precise
        self.storage = Storage.FLOAT32 if vectors.dtype == np.float32 else Storage.FLOAT16
        if codes is None:
            return
        if scales is None or codes.shape != vectors.shape or self.storage is Storage.FLOAT32:
            raise ValueError("the codes of a segment do not fit its vectors")
        self.walked = Vectors(codes, scales)
        self.storage = Storage.INT8

    @classmethod
    def copied(cls, storage: Storage, rows: NDArray[Any]) -> Kept:
        """A copy in memory of rows (n, d) as a segment would keep them."""
        vectors = np.empty(rows.shape, storage.dtype)
        for part in parts(len(rows)):
            vectors[part] = precise_rows(storage, rows[part])
        if storage is not Storage.INT8:
            return cls(vectors)
        codes = np.empty(rows.shape, np.int8)
        scales = np.empty(len(rows), np.float32)
        for part in parts(len(rows)):
            codes[part], scales[part] = coarse_rows(vectors[part])
        return cls(vectors, codes, scales)

    @property
    def rescored(self) -> bool:
        """Whether what a walk finds has to be scored anew."""
        return self.walked is not self.precise

    @property
    def nbytes(self) -> int:
        """Of all its arrays, in memory or mapped."""
        own = self.precise.values.nbytes
        if self.rescored and self.walked.scales is not None:
            own += self.walked.values.nbytes + self.walked.scales.nbytes
        return own
