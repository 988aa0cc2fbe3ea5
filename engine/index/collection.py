"""The index of one collection: one writer, any number of readers, nobody waits for a search.

State, and what is always true of it:

- `view` is the present state. `apply`, `bulk_load` and `install` make a new `View` and swap the
  reference; readers take it once per search.
- An upserted id gets a new row and its old row dies; rows are never reused.
- Segments, oldest first: any number that are frozen, then at most one, the buffer, that grows.
  The buffer is frozen when it reaches `seal_rows`. A frozen segment without a graph is searched
  by scanning until its graph is built.
- Building is the owner's to schedule. `pending_work` names the next piece, `Work.build` does it
  in any thread from values that do not change, `install` swaps the outcome in; writes that came
  meanwhile are honored.

`apply`, `bulk_load`, `pending_work`, `install` and `abandon` exclude each other by a lock, so the
owner may call them from different threads; searches never take it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from engine.errors import InvalidField
from engine.index.exact import Metric, prepare
from engine.index.hnsw import Graph, GraphSettings
from engine.index.lexical import LexicalIndex
from engine.index.maintenance import Built, MaintenanceSettings, Work, choose_work, installed
from engine.index.payloads import Mask
from engine.index.segment import Segment, SegmentView
from engine.index.view import View
from engine.types import Point, Vector

DIMENSIONS_MAX = 4_096

_BULK_STEP = 1_024
"""Points that `bulk_load` takes at a time, to keep what it holds besides the index small."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a collection's index is made with; changing it means building a new one."""

    dimensions: int
    metric: Metric = Metric.COSINE
    language: str = "en"
    graph: GraphSettings = field(default_factory=GraphSettings)
    maintenance: MaintenanceSettings = field(default_factory=MaintenanceSettings)


class CollectionIndex:
    """See the module."""

    def __init__(self, settings: IndexSettings) -> None:
        """Empty, at watermark 0. Raises InvalidField for settings out of range."""
        for name, value, least, most in (
            ("dimensions", settings.dimensions, 1, DIMENSIONS_MAX),
            ("m", settings.graph.m, 2, 128),
            ("ef_construction", settings.graph.ef_construction, 4, 4_096),
            ("ef_search", settings.graph.ef_search, 1, 4_096),
        ):
            if not least <= value <= most:
                raise InvalidField(
                    f"{name} is {value}; give {least} to {most}",
                    field=name,
                    metadata={"name": name, "value": value, "least": least, "most": most},
                )
        self.settings = settings
        self._lock = threading.Lock()
        self._lexical = LexicalIndex(settings.language)
        self._buffer = Segment(settings.dimensions)
        self._next_row = 0
        self._working: Work | None = None
        self._view = self._new_view((), 0, "")

    @property
    def view(self) -> View:
        """The present state. Take it once and search it: `search(index.view, query)`."""
        return self._view

    def _new_view(self, segments: Iterable[SegmentView], watermark: int, change_id: str) -> View:
        return View.of(
            self.settings.dimensions,
            self.settings.metric,
            segments,
            self._lexical.view,
            watermark,
            change_id,
        )

    def apply(
        self, upserts: Sequence[Point], deletes: Sequence[str], watermark: int, change_id: str
    ) -> None:
        """Make a batch of changes visible, all at once.

        Deletes come first, then upserts, of which the last of an id wins; deleting what does not
        exist is nothing. `watermark` must not fall (ValueError). Raises DimensionMismatch or
        InvalidVector before anything has changed.
        """
        vectors = [self._prepared(point, f"points[{n}].") for n, point in enumerate(upserts)]
        with self._lock:
            self._check_watermark(watermark)
            last = {point.id: place for place, point in enumerate(upserts)}
            chosen = sorted(last.values())
            points = [upserts[place] for place in chosen]
            rows = range(self._next_row, self._next_row + len(points))
            dead = self._dead({*deletes, *last})
            self._write_words(rows, points, dead)
            if points:
                self._buffer.append(rows, points, [vectors[place] for place in chosen])
                self._next_row += len(points)
            segments = self._with_dead(dead, len(points))
            if self._buffer.count >= self.settings.maintenance.seal_rows:
                segments[-1] = self._freeze(segments[-1])
            self._view = self._new_view(segments, watermark, change_id)

    def _prepared(self, point: Point, path: str) -> Vector | None:
        if point.vector is None:
            return None
        settings = self.settings
        return prepare(settings.metric, settings.dimensions, point.vector, f"{path}vector")

    def _check_watermark(self, watermark: int) -> None:
        if watermark < self._view.watermark:
            raise ValueError(f"watermark {watermark} is below the present {self._view.watermark}")

    def _dead(self, ids: Iterable[str]) -> dict[int, list[int]]:
        """Positions that die, by index of their segment in the present view."""
        dead: dict[int, list[int]] = {}
        for id in ids:
            place = self._view.find(id)
            if place is not None:
                dead.setdefault(place[0], []).append(place[1])
        return dead

    def _write_words(
        self, rows: Iterable[int], points: Iterable[Point], dead: dict[int, list[int]]
    ) -> None:
        """Commit the words first: it is the one step that can fail, and nothing else changed."""
        texts = [(row, point.text) for row, point in zip(rows, points, strict=True) if point.text]
        silent = [
            int(segment.rows[position])
            for segment, positions in ((self._view.segments[i], dead[i]) for i in dead)
            for position in positions
            if segment.segment.points[position].text
        ]
        if not texts and not silent:
            return
        try:
            self._lexical.add(texts, silent)
            self._lexical.commit()
        except BaseException:
            self._lexical.rollback()
            raise

    def _with_dead(self, dead: dict[int, list[int]], appended: int) -> list[SegmentView]:
        """The next view's segments; the buffer, if it has rows, is the last."""
        segments = []
        for index, old in enumerate(self._view.segments):
            grown = appended if old.segment is self._buffer else 0
            if index not in dead and not grown:
                segments.append(old)
                continue
            live = np.concatenate([old.live, np.ones(grown, np.bool_)])
            live[dead.get(index, [])] = False
            if live.any() or old.segment is self._buffer:
                segments.append(SegmentView.of(old.segment, live, old.graph))
        if appended and self._buffer.count == appended:
            segments.append(SegmentView.of(self._buffer, np.ones(appended, np.bool_), None))
        return segments

    def _freeze(self, buffer: SegmentView) -> SegmentView:
        """Trim the buffer, start a new one, and see the trimmed arrays."""
        self._buffer.trim()
        self._buffer = Segment(self.settings.dimensions)
        return SegmentView.of(buffer.segment, buffer.live, None)

    def bulk_load(
        self,
        points: Iterable[Point],
        watermark: int,
        change_id: str,
        *,
        threads: int = 1,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Fill an empty index and build its graphs, one for every `segment_rows_max` points.

        The points become visible together, at the end; the last of an id wins. Raises as `apply`
        does, or Cancelled soon after `stop` answers True, and leaves the index empty; ValueError
        if it was not.
        """
        with self._lock:
            if self._next_row or self._view.segments:
                raise ValueError("bulk_load needs an empty index")
            self._check_watermark(watermark)
            try:
                segments = self._bulk_segments(points)
                self._lexical.commit()
                built = [self._bulk_graph(one, threads, stop) for one in segments]
            except BaseException:
                self._lexical = LexicalIndex(self.settings.language)
                self._next_row = 0
                raise
            if built and built[-1].graph is None:
                self._buffer = built[-1].segment
            self._view = self._new_view(built, watermark, change_id)

    def _bulk_segments(self, points: Iterable[Point]) -> list[SegmentView]:
        most = self.settings.maintenance.segment_rows_max
        segments: list[tuple[Segment, Mask]] = []
        segment = Segment(self.settings.dimensions)
        segments.append((segment, np.ones(most, np.bool_)))
        source = iter(points)
        while chunk := list(islice(source, min(_BULK_STEP, most - segment.count))):
            distinct = list({point.id: point for point in chunk}.values())
            replaced: list[int] = []
            for point in distinct:
                for older, older_live in segments:
                    position = older.position(point.id, older.count)
                    if position >= 0 and older_live[position]:
                        older_live[position] = False
                        if older.points[position].text:
                            replaced.append(int(older.rows[position]))
            vectors = [self._prepared(point, "") for point in distinct]
            rows = range(self._next_row, self._next_row + len(distinct))
            texts = [(row, one.text) for row, one in zip(rows, distinct, strict=True) if one.text]
            if texts or replaced:
                self._lexical.add(texts, replaced)
            segment.append(rows, distinct, vectors)
            self._next_row += len(distinct)
            if segment.count >= most:
                segment.trim()
                segment = Segment(self.settings.dimensions)
                segments.append((segment, np.ones(most, np.bool_)))
        segment.trim()
        return [
            SegmentView.of(one, alive[: one.count].copy(), None)
            for one, alive in segments
            if one.count
        ]

    def _bulk_graph(
        self, segment: SegmentView, threads: int, stop: Callable[[], bool]
    ) -> SegmentView:
        if segment.count < self.settings.maintenance.seal_rows or not segment.eligible_count:
            return segment
        graph = Graph.build(
            self.settings.metric,
            segment.vectors,
            np.flatnonzero(segment.eligible),
            self.settings.graph,
            threads=threads,
            stop=stop,
        )
        return SegmentView.of(segment.segment, segment.live, graph)

    def pending_work(self, *, quiet: bool = False) -> Work | None:
        """The next graph to build or segments to merge; None if all is well, or one is under way.

        `quiet` says that nobody writes, so that more is worth doing. Hand the work to `install`
        (built) or `abandon` in the end, or there will be no other.
        """
        with self._lock:
            if self._working is not None:
                return None
            settings = self.settings
            if quiet and self._buffer.count >= settings.maintenance.quiet_seal_rows:
                old = self._view
                segments = [*old.segments[:-1], self._freeze(old.segments[-1])]
                self._view = self._new_view(segments, old.watermark, old.change_id)
            frozen = [one for one in self._view.segments if one.segment is not self._buffer]
            self._working = choose_work(
                frozen, settings.maintenance, settings.metric, settings.graph, quiet=quiet
            )
            return self._working

    def install(self, built: Built) -> None:
        """Swap in what `Work.build` made; quick. ValueError if that work is not under way."""
        with self._lock:
            if built.work is not self._working:
                raise ValueError("this work is not under way; it was installed or abandoned")
            old = self._view
            segments = installed(built, old.segments)
            self._view = self._new_view(segments, old.watermark, old.change_id)
            self._working = None

    def abandon(self, work: Work) -> None:
        """Give up work that was not built; `pending_work` will offer it again."""
        with self._lock:
            if work is self._working:
                self._working = None
