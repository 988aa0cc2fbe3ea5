"""Similarity, and exact search by looking at every row: the oracle, and the way for few rows.

Scores are higher for better. Cosine: the cosine similarity in [-1, 1], of vectors that are
normalized when they come in. Dot: the inner product. Euclidean: the negative distance.

A pair of vectors has one score, whichever way it was found: one native routine sums every row in
one order, in one thread and without the GIL. So equal vectors tie exactly and ties can be broken
by id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import Vectors, score_rows
from ragmesh_native import scan as native_scan

from engine.errors import DimensionMismatch, InvalidVector
from engine.types import Matrix, Vector

Positions = NDArray[np.int64]


class Metric(StrEnum):
    """How vectors are compared."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"


NATIVE: Final[Mapping[Metric, Literal["ip", "cosine", "l2"]]] = {
    Metric.COSINE: "cosine",
    Metric.DOT: "ip",
    Metric.EUCLIDEAN: "l2",
}
"""The names that `ragmesh_native` knows the metrics by."""


_UNIT: Final = 1e-6
"""How far from 1 the square of a norm may be that is taken for 1: as far as float32 computes it."""


def prepare(metric: Metric, dimensions: int, vector: NDArray[Any], field: str) -> Vector:
    """A vector as the index compares it: float32, contiguous, normalized for cosine.

    Raises DimensionMismatch, or InvalidVector if it is not finite, or has norm zero under cosine.
    `field` names the request's field in the error.
    """
    out = np.ascontiguousarray(vector, np.float32)
    if out.shape != (dimensions,):
        length = out.shape[0] if out.ndim == 1 else out.size
        raise DimensionMismatch(
            f"the vector has {length} dimensions and the collection {dimensions}; "
            "embed with the collection's model",
            field=field,
            metadata={"dimensions": length, "dimensions_expected": dimensions},
        )
    # Finite if every value is, unless float32 overflows: then the sum in float64 decides.
    with np.errstate(over="ignore"):
        square = float(np.dot(out, out))
    if not math.isfinite(square):
        square = float(np.sum(np.square(out, dtype=np.float64)))
        if not math.isfinite(square):
            raise InvalidVector(
                "the vector holds a value that is not finite; send finite numbers only",
                field=field,
                metadata={"dimensions": dimensions},
            )
    if metric is not Metric.COSINE:
        return out
    if square < 1e-30:  # tiny but not zero: float32 squares underflow
        square = float(np.sum(np.square(out, dtype=np.float64)))
        if square == 0.0:
            raise InvalidVector(
                "the vector has norm zero, which no cosine similarity is defined for",
                field=field,
                metadata={"dimensions": dimensions},
            )
    if abs(square - 1.0) <= _UNIT:
        return out  # as it was prepared before: what comes back from a segment stays what it is
    if 1e-30 < square < 1e30:
        return out / np.float32(math.sqrt(square))
    normalized: Vector = (out / np.float64(math.sqrt(square))).astype(np.float32)
    return normalized


def prepare_rows(
    metric: Metric, dimensions: int, vectors: Sequence[NDArray[Any] | None], path: str
) -> Sequence[Vector | None]:
    """Several vectors as `prepare` gives them, to the bit; None stays None. Raises as it does;
    `path` is put before `[index].vector` to name the field at fault."""
    given = [vector for vector in vectors if vector is not None]
    plain = all(one.dtype == np.float32 and one.shape == (dimensions,) for one in given)
    if plain and len(given) > 1:
        rows = prepare_matrix(metric, np.stack(given))
        if rows is not None:
            prepared = iter(rows)
            return [None if vector is None else next(prepared) for vector in vectors]
    return [
        None if vector is None else prepare(metric, dimensions, vector, f"{path}[{index}].vector")
        for index, vector in enumerate(vectors)
    ]


def prepare_matrix(metric: Metric, rows: Matrix) -> Matrix | None:
    """Rows as `prepare` gives them, to the bit, in a matrix; None where one of them
    takes more than one step, or is refused."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(rows, rows)
    if not bool(np.all((squares > 1e-30) & (squares < 1e30))):
        return None
    if metric is not Metric.COSINE:
        return rows
    squares[np.abs(squares - 1.0) <= _UNIT] = 1.0
    prepared: Matrix = rows / np.sqrt(squares)[:, None]
    return prepared


def scores(metric: Metric, rows: Matrix, query: Vector) -> NDArray[np.float32]:
    """The score of each row, shape (rows,)."""
    return score_rows(Vectors(np.ascontiguousarray(rows)), query, NATIVE[metric])


def scan(
    metric: Metric,
    vectors: Matrix | Vectors,
    query: Vector,
    k: int,
    positions: Positions | None = None,
    *,
    allowed: NDArray[np.bool_] | None = None,
    coarse: Vectors | None = None,
) -> tuple[Positions, NDArray[np.float32]]:
    """Positions and scores of the best `k` rows, and of all that tie with the last of them.

    Among `positions`, or those that are `allowed` (one entry a row), or all rows. In no order.
    `coarse`, the same rows as codes, changes nothing but the time that it takes.
    """
    rows = vectors if isinstance(vectors, Vectors) else Vectors(vectors)
    return native_scan(rows, query, k, NATIVE[metric], allowed, positions, coarse)
