"""A segment: rows of a collection, stored by column, with or without a graph over them.

State, and what is always true of it:

- A row has a position in its segment (0, 1, 2 …) and a number in the collection, never reused.
  Numbers ascend with positions, and segments of a view follow each other in row numbers, so a
  number leads to its segment and position by bisection.
- Rows are appended by the one writer and never change. An array that is full is replaced by a
  larger copy; a reader that took the old one still has all rows of its view in it.
- Which rows are alive is not the segment's business but the view's: a `SegmentView` pairs the
  segment with the number of rows that the view knows and a bitmap of those alive.
- A vector is kept once, in `vectors`; the points kept have none. Rows without one are zeros there
  and False in `dense`.
"""

from __future__ import annotations

import dataclasses
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.index.exact import Positions
from engine.index.filters import Filter
from engine.index.hnsw import Graph
from engine.index.payloads import Mask, PayloadIndex
from engine.types import Matrix, Point, Vector

_POINT_BYTES = 450
"""A Point, its id, its dict entry and an empty payload, by sys.getsizeof on CPython 3.11."""

_PAYLOAD_ENTRY_BYTES = 150
"""A key and a scalar of a payload, roughly."""


class Segment:
    """Rows of one collection. One writer appends until it is frozen, which is the owner's word."""

    __slots__ = (
        "_object_bytes",
        "_previous",
        "_sorted_ids",
        "count",
        "dense",
        "payloads",
        "points",
        "positions_by_id",
        "rows",
        "vectors",
    )

    def __init__(self, dimensions: int, capacity: int = 64) -> None:
        """Empty; vectors will have `dimensions`."""
        self.count = 0
        self.points: list[Point] = []
        self.rows: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.vectors: Matrix = np.zeros((capacity, dimensions), np.float32)
        self.dense: Mask = np.zeros(capacity, np.bool_)
        self.payloads = PayloadIndex(self.points)
        self.positions_by_id: dict[str, int] = {}
        self._previous: list[int] = []
        self._sorted_ids: list[str] = []
        self._object_bytes = 0

    def append(
        self, rows: Sequence[int], points: Sequence[Point], vectors: Sequence[Vector | None]
    ) -> None:
        """Add rows; `vectors` are prepared for the metric, the points' own are dropped."""
        first, total = self.count, self.count + len(points)
        self._reserve(total)
        self.rows[first:total] = rows
        for position, (point, vector) in enumerate(zip(points, vectors, strict=True), first):
            if vector is not None:
                self.vectors[position] = vector
                self.dense[position] = True
            kept = dataclasses.replace(point, vector=None)
            self.points.append(kept)
            self._previous.append(self.positions_by_id.get(point.id, -1))
            self.positions_by_id[point.id] = position
            self._object_bytes += _object_bytes(kept)
        self.payloads.append(first, [point.payload for point in points])
        self.count = total

    def _reserve(self, total: int) -> None:
        if total <= len(self.rows):
            return
        capacity = max(total, 2 * len(self.rows))
        count = self.count
        rows = np.empty(capacity, np.int64)
        rows[:count] = self.rows[:count]
        vectors = np.zeros((capacity, self.vectors.shape[1]), np.float32)
        vectors[:count] = self.vectors[:count]
        dense = np.zeros(capacity, np.bool_)
        dense[:count] = self.dense[:count]
        self.rows, self.vectors, self.dense = rows, vectors, dense

    def trim(self) -> None:
        """Give back the capacity not used; called when the segment is frozen."""
        if len(self.rows) > self.count:
            self.rows = self.rows[: self.count].copy()
            self.vectors = self.vectors[: self.count].copy()
            self.dense = self.dense[: self.count].copy()

    def position(self, id: str, count: int) -> int:
        """The newest of the first `count` positions that holds this id, or -1."""
        position = self.positions_by_id.get(id, -1)
        while position >= count:
            position = self._previous[position]
        return position

    def sorted_ids(self, count: int) -> list[str]:
        """The distinct ids of the first `count` rows, and maybe newer ones, in order."""
        ids = self._sorted_ids
        if len(self.positions_by_id) != len(ids):
            ids = sorted(self.positions_by_id)
            self._sorted_ids = ids  # one assignment: racing readers both win
        return ids

    @property
    def nbytes(self) -> int:
        """About how much memory the rows take without a graph, in bytes."""
        arrays = self.rows.nbytes + self.vectors.nbytes + self.dense.nbytes
        return int(arrays + self._object_bytes + self.payloads.nbytes)


def _object_bytes(point: Point) -> int:
    total = _POINT_BYTES + sys.getsizeof(point.text) + _PAYLOAD_ENTRY_BYTES * len(point.payload)
    if point.sentences is not None:
        total += point.sentences.spans.nbytes + point.sentences.vectors.nbytes + 300
    return total


@dataclass(frozen=True, slots=True)
class SegmentView:
    """What one view knows of a segment; never changes.

    `live` is a bitmap over the first `count` rows, `live_count` how many are set. `eligible` are
    the live rows with a vector, `eligible_count` how many. `graph` is over a superset of these.
    """

    segment: Segment
    count: int
    live: Mask
    live_count: int
    eligible: Mask
    eligible_count: int
    graph: Graph | None
    rows: NDArray[np.int64]
    vectors: Matrix

    @classmethod
    def of(cls, segment: Segment, live: Mask, graph: Graph | None) -> SegmentView:
        """Over the first len(`live`) rows."""
        count = len(live)
        eligible = live & segment.dense[:count]
        return cls(
            segment=segment,
            count=count,
            live=live,
            live_count=int(np.count_nonzero(live)),
            eligible=eligible,
            eligible_count=int(np.count_nonzero(eligible)),
            graph=graph,
            rows=segment.rows[:count],
            vectors=segment.vectors[:count],
        )

    @property
    def tombstones(self) -> int:
        """Rows kept that are no longer alive."""
        return self.count - self.live_count

    def find(self, id: str) -> int:
        """The position of a live point, or -1."""
        position = self.segment.position(id, self.count)
        return position if position >= 0 and self.live[position] else -1

    def matching(self, filter: Filter) -> Mask:
        """Live rows that satisfy a valid filter."""
        return self.segment.payloads.mask(filter, self.count) & self.live

    def ids_after(self, id: str, mask: Mask | None) -> Iterator[str]:
        """Ids of live points above `id`, in order; only those in the mask if there is one."""
        ids = self.segment.sorted_ids(self.count)
        chosen = self.live if mask is None else mask
        for index in range(bisect_left(ids, id) if id else 0, len(ids)):
            candidate = ids[index]
            if candidate > id:
                position = self.find(candidate)
                if position >= 0 and chosen[position]:
                    yield candidate

    def point(self, position: int, with_vector: bool = False) -> Point:
        """The point at a position; its vector, as prepared for the metric, only if asked for."""
        point = self.segment.points[position]
        if with_vector and self.segment.dense[position]:
            return dataclasses.replace(point, vector=self.vectors[position].copy())
        return point

    def positions_of(self, rows: NDArray[np.int64]) -> Positions:
        """Positions of row numbers that this view has."""
        positions: Positions = np.searchsorted(self.rows, rows)
        return positions
