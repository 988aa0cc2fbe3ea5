"""Sealing and merging: which segments to rebuild next, and how, beside the searches.

A frozen segment gets a graph (it is sealed). One with too many dead rows is rebuilt without them.
Too many segments are merged, neighbors only, so that segments go on following each other in row
numbers; the cheapest run of neighbors goes first, which makes the sizes grow in tiers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.errors import Cancelled
from engine.index.exact import Metric, Positions
from engine.index.hnsw import Graph, GraphSettings
from engine.index.payloads import Mask
from engine.index.segment import Segment, SegmentView

_COPY_ROWS = 1_024
"""Rows copied between two looks at `stop`."""


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """When segments are rebuilt.

    `seal_rows`: rows at which the buffer is frozen and gets a graph; more of them make searches
    scan longer, fewer make more graphs to merge. `segments_max`: graphs above which neighbors are
    merged. `merge_width`: how many at a time. `dead_share_max`: share of tombstones above which a
    segment is rebuilt. `segment_rows_max`: no merge makes a larger one.
    """

    seal_rows: int = 4_096
    segments_max: int = 8
    merge_width: int = 4
    dead_share_max: float = 0.3
    segment_rows_max: int = 200_000
    quiet_seal_rows: int = 512
    """Rows at which the buffer is frozen while nobody writes: scanning more takes 0.1 ms."""


@dataclass(frozen=True, slots=True)
class Built:
    """The outcome of `Work.build`. `kept` are the positions of each source that were taken over,
    None if the source itself stays and only got a graph."""

    work: Work
    segment: Segment
    graph: Graph | None
    kept: tuple[Positions, ...] | None


@dataclass(frozen=True, slots=True)
class Work:
    """Segments to be replaced by one with a graph, as they were when the work was chosen."""

    sources: tuple[SegmentView, ...]
    metric: Metric
    graph: GraphSettings
    compact: bool

    @property
    def rows(self) -> int:
        """About how much work it is: rows that will be in the graph."""
        return sum(source.eligible_count for source in self.sources)

    def build(self, *, threads: int = 1, stop: Callable[[], bool] = lambda: False) -> Built:
        """Do it: seconds for 10,000s of rows, most of them without the GIL.

        Call it from any thread while writes and searches go on. Raises Cancelled soon after
        `stop` answers True.
        """
        if self.compact:
            kept = tuple(np.flatnonzero(source.live) for source in self.sources)
            segment = self._copied(kept, stop)
            eligible: Mask = segment.dense[: segment.count]
        else:
            kept = None
            segment = self.sources[0].segment
            eligible = self.sources[0].eligible
        graph = None
        if eligible.any():
            positions = np.flatnonzero(eligible)
            graph = Graph.build(
                self.metric, segment.vectors, positions, self.graph, threads=threads, stop=stop
            )
        return Built(self, segment, graph, kept)

    def _copied(self, kept: tuple[Positions, ...], stop: Callable[[], bool]) -> Segment:
        total = sum(len(positions) for positions in kept)
        out = Segment(self.sources[0].vectors.shape[1], total)
        for source, positions in zip(self.sources, kept, strict=True):
            for start in range(0, len(positions), _COPY_ROWS):
                if stop():
                    raise Cancelled(
                        f"merging segments was stopped at {out.count} of {total} rows",
                        metadata={"rows": out.count, "rows_total": total},
                    )
                step = positions[start : start + _COPY_ROWS].tolist()
                old = source.segment
                out.append(
                    source.rows[step].tolist(),
                    [old.points[position] for position in step],
                    [source.vectors[p] if old.dense[p] else None for p in step],
                )
        return out


def choose_work(
    frozen: Sequence[SegmentView],
    settings: MaintenanceSettings,
    metric: Metric,
    graph: GraphSettings,
    *,
    quiet: bool = False,
) -> Work | None:
    """The next work on frozen segments in their order, or None if all is well.

    `quiet` says that nobody writes.
    """

    def work(sources: Sequence[SegmentView], compact: bool) -> Work:
        return Work(tuple(sources), metric, graph, compact)

    for segment in frozen:
        too_dead = segment.tombstones > settings.dead_share_max * segment.count
        if too_dead or (segment.graph is None and segment.eligible_count):
            return work([segment], too_dead)
    if quiet and (run := _quiet_run(frozen, settings.segment_rows_max)):
        return work(run, True)
    if len(frozen) <= settings.segments_max:
        return None
    for width in range(min(settings.merge_width, len(frozen)), 1, -1):
        ends = np.cumsum([0, *(segment.live_count for segment in frozen)])
        totals = ends[width:] - ends[:-width]
        start = int(np.argmin(totals))
        if totals[start] <= settings.segment_rows_max:
            return work(frozen[start : start + width], True)
    return None


_MERGE_RATIO = 4
"""Segments are merged unasked if the largest is at most so many times as large as the others
together: so each merge adds a fifth to the largest segment at least, and a point is copied
O(log n) times."""


def _quiet_run(frozen: Sequence[SegmentView], rows_max: int) -> Sequence[SegmentView]:
    """The most neighbors that are worth one graph in place of several; none or at least two."""
    rows = [segment.live_count for segment in frozen]
    for width in range(len(frozen), 1, -1):
        for start in range(len(frozen) - width + 1):
            run = rows[start : start + width]
            others = sum(run) - max(run)
            if sum(run) <= rows_max and max(run) <= _MERGE_RATIO * others:
                return frozen[start : start + width]
    return ()


def installed(built: Built, segments: Sequence[SegmentView]) -> list[SegmentView]:
    """The present segments of a view with the sources replaced by what was built of them.

    Rows that died since the work was chosen are dead in the outcome, and a source that is gone
    has only dead rows.
    """
    sources = [source.segment for source in built.work.sources]
    now = {id(segment.segment): segment for segment in segments}
    present = [now.get(id(source)) for source in sources]
    if built.kept is None:
        live = present[0].live if present[0] is not None else np.zeros(0, np.bool_)
    else:
        parts = [
            np.zeros(len(positions), np.bool_) if current is None else current.live[positions]
            for current, positions in zip(present, built.kept, strict=True)
        ]
        live = np.concatenate(parts)
    out: list[SegmentView] = []
    placed = not live.any()
    replaced = {id(source) for source in sources}
    for segment in segments:
        if id(segment.segment) not in replaced:
            out.append(segment)
        elif not placed:
            out.append(SegmentView.of(built.segment, live, built.graph))
            placed = True
    assert all(one.rows[-1] < other.rows[0] for one, other in pairwise(out))
    return out
