"""One immutable state of a collection, as any number of threads read it.

A view never changes and never waits: the writer makes the next one beside it and swaps a
reference. Whoever holds a view sees all of the writes up to its watermark and none after.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from engine.index.exact import Metric
from engine.index.filters import Filter, canonical
from engine.index.lexical import LexicalView
from engine.index.segment import SegmentView
from engine.types import Point


@dataclass(frozen=True, slots=True)
class View:
    """`segments` ascend in row numbers. `watermark` and `change_id` name the last commit in it."""

    dimensions: int
    metric: Metric
    segments: tuple[SegmentView, ...]
    lexical: LexicalView
    watermark: int
    change_id: str
    points: int
    first_rows: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        dimensions: int,
        metric: Metric,
        segments: Iterable[SegmentView],
        lexical: LexicalView,
        watermark: int,
        change_id: str,
    ) -> View:
        """Over the segments that have rows."""
        kept = tuple(segment for segment in segments if segment.count)
        return cls(
            dimensions=dimensions,
            metric=metric,
            segments=kept,
            lexical=lexical,
            watermark=watermark,
            change_id=change_id,
            points=sum(segment.live_count for segment in kept),
            first_rows=np.array([segment.rows[0] for segment in kept], np.int64),
        )

    def find(self, id: str) -> tuple[int, int] | None:
        """Segment index and position of a live point."""
        for index in range(len(self.segments) - 1, -1, -1):
            position = self.segments[index].find(id)
            if position >= 0:
                return index, position
        return None


@dataclass(frozen=True, slots=True)
class IndexStats:
    """The size of an index. `buffered` rows are searched by scanning; `bytes` is an estimate of
    the memory taken, from the sizes of arrays, graphs and texts."""

    points: int
    tombstones: int
    segments: int
    graphs: int
    buffered: int
    bytes: int
    watermark: int
    change_id: str


def stats(view: View) -> IndexStats:
    """The size of a view."""
    graphs = [segment.graph for segment in view.segments if segment.graph is not None]
    texts = view.lexical.rows
    return IndexStats(
        points=view.points,
        tombstones=sum(segment.tombstones for segment in view.segments),
        segments=len(view.segments),
        graphs=len(graphs),
        buffered=sum(segment.count for segment in view.segments if segment.graph is None),
        # Postings of about 60 distinct words a passage, 5 bytes each, and the row number.
        bytes=sum(segment.segment.nbytes for segment in view.segments)
        + sum(graph.nbytes for graph in graphs)
        + 310 * texts,
        watermark=view.watermark,
        change_id=view.change_id,
    )


def count(view: View, filter: Filter | None = None) -> int:
    """How many points there are, or satisfy the filter. Raises InvalidFilter."""
    if filter is None:
        return view.points
    wanted = canonical(filter)
    return sum(int(np.count_nonzero(one.matching(wanted))) for one in view.segments)


def count_passages(view: View) -> int:
    """How many points are passages of documents."""
    return sum(
        bool(segment.segment.points[position].document)
        for segment in view.segments
        for position in np.flatnonzero(segment.live).tolist()
    )


def get(view: View, ids: Iterable[str], *, with_vectors: bool = False) -> list[Point]:
    """The points with these ids, in the order asked for; those that do not exist are left out."""
    places = (view.find(id) for id in ids)
    return [
        view.segments[place[0]].point(place[1], with_vectors)
        for place in places
        if place is not None
    ]


def list_points(
    view: View,
    *,
    after_id: str = "",
    limit: int = 100,
    filter: Filter | None = None,
    with_vectors: bool = False,
) -> list[Point]:
    """Up to `limit` points in the order of their ids, from the first above `after_id`.

    Ids order by code point. Raises InvalidFilter.
    """
    wanted = None if filter is None else canonical(filter)
    ids = heapq.merge(
        *(
            segment.ids_after(after_id, None if wanted is None else segment.matching(wanted))
            for segment in view.segments
        )
    )
    return get(view, islice(ids, limit), with_vectors=with_vectors)
