"""The buffer: the newest rows of a collection, in memory, searched by looking at each.

State, and what is always true of it:

- A row has a position (0, 1, 2 …). Rows are appended by the one writer and never change. An array
  that is full is replaced by a larger copy; a reader that took the old one still has all rows of
  its view in it.
- Which rows are alive is not the buffer's business but the view's: a `SegmentView` pairs it with
  the number of rows that the view knows and a mask of those alive.
- A vector is kept once, in `vectors`; the points kept have none. Rows without one are zeros there
  and False in `dense`. `codes` and `scales` are the same rows as `storage` has them.
"""

from __future__ import annotations

import dataclasses
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.index.conditions import Analyze
from engine.index.filters import Filter
from engine.index.payloads import Mask, PayloadIndex
from engine.index.postings import WordBuffer
from engine.index.sparse import SparseBuffer
from engine.index.storage import Kept, coarse_rows
from engine.index.written import WrittenPayload
from engine.types import Matrix, Point, Vector

Scalar = TypeVar("Scalar", bound=np.generic)

_POINT_BYTES = 450
"""A Point, its id, its dict entry and an empty payload, by sys.getsizeof on CPython 3.11."""

_PAYLOAD_ENTRY_BYTES = 150
"""A key and a scalar of a payload, roughly."""

_WRITTEN_BYTES = 80
"""A payload as its text, beside that."""


class Buffer:
    """Rows of one collection. One writer appends until it is frozen, which is the owner's word."""

    __slots__ = (
        "_object_bytes",
        "_previous",
        "_sorted_ids",
        "codes",
        "count",
        "dense",
        "payloads",
        "points",
        "positions_by_id",
        "scales",
        "seqs",
        "sparse",
        "token_bytes",
        "vectors",
        "words",
    )

    def __init__(self, dimensions: int, analyze: Analyze, capacity: int = 64) -> None:
        """Empty; vectors will have `dimensions`. `analyze` takes texts apart into words."""
        self.count = 0
        self.points: list[Point] = []
        self.seqs: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.vectors: Matrix = np.zeros((capacity, dimensions), np.float32)
        self.codes: NDArray[np.int8] = np.zeros((capacity, dimensions), np.int8)
        self.scales: NDArray[np.float32] = np.zeros(capacity, np.float32)
        self.dense: Mask = np.zeros(capacity, np.bool_)
        self.payloads = PayloadIndex(self.points, analyze)
        self.words = WordBuffer()
        self.sparse: SparseBuffer | None = None  # until a row has a sparse vector
        self.positions_by_id: dict[str, int] = {}
        self._previous: list[int] = []
        self._sorted_ids: list[str] = []
        self._object_bytes = 0
        self.token_bytes = 0

    def append(
        self,
        points: Sequence[Point],
        vectors: Sequence[Vector | None] | Matrix,
        words: Sequence[Sequence[str]],
        seqs: Sequence[int],
    ) -> None:
        """Add rows; `vectors`, one a point or a matrix, are prepared for the metric, and the
        points' own are dropped. `words` are those of the texts, `seqs` the commits that wrote the
        rows."""
        first, total = self.count, self.count + len(points)
        self._reserve(total)
        self.seqs[first:total] = seqs
        self._append_vectors(first, vectors)
        new = slice(first, total)
        self.codes[new], self.scales[new] = coarse_rows(self.vectors[new])
        known = self.positions_by_id
        for position, point in enumerate(points, first):
            kept = point if point.vector is None else dataclasses.replace(point, vector=None)
            self.points.append(kept)
            self._previous.append(known.get(point.id, -1))
            known[point.id] = position
            self._object_bytes += _object_bytes(kept)
            if kept.token_vectors is not None:
                self.token_bytes += kept.token_vectors.nbytes
        self.words.append(first, words)
        self._append_sparse(first, points)
        self.count = total

    def _append_vectors(self, first: int, vectors: Sequence[Vector | None] | Matrix) -> None:
        if isinstance(vectors, np.ndarray) or all(vector is not None for vector in vectors):
            self.vectors[first : first + len(vectors)] = vectors
            self.dense[first : first + len(vectors)] = True
            return
        for position, vector in enumerate(vectors, first):
            if vector is not None:
                self.vectors[position] = vector
                self.dense[position] = True

    def _append_sparse(self, first: int, points: Sequence[Point]) -> None:
        if self.sparse is None:
            if all(point.sparse_vector is None for point in points):
                return
            self.sparse = SparseBuffer()
        self.sparse.append(first, [point.sparse_vector for point in points])

    def _reserve(self, total: int) -> None:
        if total <= len(self.seqs):
            return
        capacity = max(total, 2 * len(self.seqs))
        self.seqs = self._grown(self.seqs, capacity)
        self.vectors = self._grown(self.vectors, capacity)
        self.codes = self._grown(self.codes, capacity)
        self.scales = self._grown(self.scales, capacity)
        self.dense = self._grown(self.dense, capacity)

    def _grown(self, array: NDArray[Scalar], capacity: int) -> NDArray[Scalar]:
        grown = np.zeros((capacity, *array.shape[1:]), array.dtype)
        grown[: self.count] = array[: self.count]
        return grown

    def find(self, id: str, count: int) -> int:
        """The newest of the first `count` positions that holds this id, or -1."""
        position = self.positions_by_id.get(id, -1)
        while position >= count:
            position = self._previous[position]
        return position

    def found(self, ids: Set[str], count: int) -> list[int]:
        """The newest of the first `count` positions of those of these ids that there are."""
        places = [self.find(id, count) for id in self.positions_by_id.keys() & ids]
        return [place for place in places if place >= 0]

    def id(self, position: int) -> str:
        """The id of a row."""
        return self.points[position].id

    def document(self, position: int) -> str:
        """The document of a row, or the empty string."""
        return self.points[position].document

    def point(self, position: int) -> Point:
        """A row without its vector."""
        return self.points[position]

    def named(self, position: int) -> Point:
        """A row with at least its id and its place in its document."""
        return self.points[position]

    def kept(self, count: int) -> Kept:
        """The vectors of the first `count` rows, as searches read them."""
        return Kept(self.vectors[:count], self.codes[:count], self.scales[:count])

    def passages(self, live: Mask) -> int:
        """How many of these rows are passages of documents."""
        return sum(bool(self.points[position].document) for position in np.flatnonzero(live))

    def mask(self, filter: Filter, count: int) -> Mask:
        """Which of the first `count` rows satisfy a valid filter."""
        return self.payloads.mask(filter, count)

    def ids_after(self, id: str, count: int) -> Iterator[tuple[str, int]]:
        """Ids above `id` among the first `count` rows, in order, each with its newest position."""
        ids = self._sorted_ids
        if len(self.positions_by_id) != len(ids):
            ids = sorted(self.positions_by_id)
            self._sorted_ids = ids  # one assignment: racing readers both win
        for index in range(bisect_left(ids, id) if id else 0, len(ids)):
            candidate = ids[index]
            position = self.find(candidate, count)
            if candidate > id and position >= 0:
                yield candidate, position

    @property
    def sparse_bytes(self) -> int:
        """About how much memory the sparse vectors take, in bytes."""
        return 0 if self.sparse is None else self.sparse.nbytes

    @property
    def nbytes(self) -> int:
        """About how much memory the rows take, in bytes."""
        arrays = self.seqs.nbytes + self.vectors.nbytes + self.dense.nbytes + self.sparse_bytes
        arrays += self.codes.nbytes + self.scales.nbytes
        parts = self._object_bytes + self.token_bytes + self.payloads.nbytes + self.words.nbytes
        return int(arrays + parts)


def _object_bytes(point: Point) -> int:
    payload = point.payload
    if isinstance(payload, WrittenPayload):
        total = _POINT_BYTES + sys.getsizeof(point.text) + _WRITTEN_BYTES + len(payload.text)
    else:
        total = _POINT_BYTES + sys.getsizeof(point.text) + _PAYLOAD_ENTRY_BYTES * len(payload)
    if point.sentences is not None:
        total += point.sentences.spans.nbytes + point.sentences.vectors.nbytes + 300
    return total
