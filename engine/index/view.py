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

from engine.index.exact import Metric
from engine.index.filters import Filter, canonical
from engine.index.segment import SegmentView
from engine.index.words import Analyzer
from engine.types import Point


@dataclass(frozen=True, slots=True)
class View:
    """`segments`: sealed ones, then buffers. An id is alive in one of them at most. `watermark` and
    `change_id` name the last commit in it."""

    dimensions: int
    metric: Metric
    segments: tuple[SegmentView, ...]
    analyzer: Analyzer
    watermark: int
    change_id: str
    points: int

    @classmethod
    def of(
        cls,
        dimensions: int,
        metric: Metric,
        segments: Iterable[SegmentView],
        analyzer: Analyzer,
        watermark: int,
        change_id: str,
    ) -> View:
        """Over the segments that have rows."""
        kept = tuple(segment for segment in segments if segment.count)
        return cls(
            dimensions=dimensions,
            metric=metric,
            segments=kept,
            analyzer=analyzer,
            watermark=watermark,
            change_id=change_id,
            points=sum(segment.live_count for segment in kept),
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
    """The size of an index. `buffered` rows are in memory and searched by scanning; `heap_bytes` is
    an estimate of what they take. `mapped_bytes` are in files, and in memory as far as they are
    read; the kernel may drop them. `vector_bytes` and `graph_bytes` are the parts of these that
    searches by vector touch, `token_bytes` what of all is token vectors."""

    points: int
    tombstones: int
    segments: int
    buffered: int
    heap_bytes: int
    mapped_bytes: int
    vector_bytes: int
    graph_bytes: int
    watermark: int
    change_id: str
    token_bytes: int = 0


def stats(view: View) -> IndexStats:
    """The size of a view."""
    sealed = [one for one in view.segments if one.sealed is not None]
    buffers = [one for one in view.segments if one.sealed is None]
    return IndexStats(
        points=view.points,
        tombstones=sum(one.tombstones for one in view.segments),
        segments=len(sealed),
        buffered=sum(one.live_count for one in buffers),
        heap_bytes=sum(one.rows.nbytes for one in buffers),
        mapped_bytes=sum(one.rows.nbytes for one in sealed),
        vector_bytes=sum(one.kept.nbytes for one in sealed),
        graph_bytes=sum(one.graph.nbytes for one in sealed if one.graph is not None),
        watermark=view.watermark,
        change_id=view.change_id,
        token_bytes=sum(one.rows.token_bytes for one in view.segments),
    )


def count(view: View, filter: Filter | None = None) -> int:
    """How many points there are, or satisfy the filter. Raises InvalidFilter."""
    if filter is None:
        return view.points
    wanted = canonical(filter, view.analyzer.words)
    return sum(int(np.count_nonzero(one.matching(wanted))) for one in view.segments)


def count_passages(view: View) -> int:
    """How many points are passages of documents."""
    return sum(one.rows.passages(one.live) for one in view.segments)


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
    wanted = None if filter is None else canonical(filter, view.analyzer.words)
    ids = heapq.merge(
        *(
            segment.ids_after(after_id, None if wanted is None else segment.matching(wanted))
            for segment in view.segments
        )
    )
    return get(view, islice(ids, limit), with_vectors=with_vectors)
