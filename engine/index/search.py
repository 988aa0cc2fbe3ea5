"""Search of one view: by vector, by words, by sparse vector, or by several fused; exact under any
filter.

The legs choose candidates and score them; ties are broken by id, so the same view and query give
the same answer. The dense leg is approximate in the segments that have a graph, unless `exact`
is asked for or the plan chose to scan; the other legs and filters are always exact.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import Vectors

from engine.errors import RagmeshError
from engine.index import exact, plan, sparse
from engine.index.beams import EXACT, Band, band_of
from engine.index.bm25 import Part, ranking
from engine.index.exact import Metric, Positions
from engine.index.filters import canonical
from engine.index.fusion import fuse
from engine.index.graph import Beam, Walk
from engine.index.laps import Laps, Stage
from engine.index.payloads import Mask
from engine.index.placed import Leg, Place, Placed
from engine.index.query import EF_MAX, LIMIT_MAX, Explain, Mode, Query, Results, check, legs_of
from engine.index.segment import SegmentView
from engine.index.storage import Storage
from engine.index.view import View
from engine.types import Vector

__all__ = [
    "EF_MAX",
    "LIMIT_MAX",
    "Explain",
    "Mode",
    "Placed",
    "Query",
    "Results",
    "Walks",
    "estimate_ns",
    "goes_by_graph",
    "place",
    "search",
    "walk_together",
]


Walks: TypeAlias = Mapping[int, Walk]
"""What was found by the graphs of segments, by the segment's index."""


@dataclass(slots=True)
class _Search:
    view: View
    query: Query
    explain: Explain
    walks: Walks
    masks: list[Mask] | None = field(default=None)


def search(view: View, query: Query, laps: Laps | None = None) -> Results:
    """The best points of a view. `laps` takes the time of its stages. Raises as `place` does."""
    placed = place(view, query, laps)
    hits = placed.hits()
    if laps is not None:
        laps.end(Stage.DECODE)
    return Results(hits, placed.explain, placed.watermark)


def place(
    view: View, query: Query, laps: Laps | None = None, walks: Walks = MappingProxyType({})
) -> Placed:
    """The places and scores of the best points of a view. `laps` takes the time of its stages;
    `walks` are those that `walk_together` gave for this query.

    Raises InvalidField, InvalidFilter, InvalidVector or DimensionMismatch; never anything about
    how many points there are: fewer hits than `limit` means that no more qualify.
    """
    mode, legs = legs_of(query)
    check(query)
    explain = Explain(mode, segments=len(view.segments), legs=legs)
    run = _Search(view, query, explain, walks)
    if query.filter is not None:
        wanted = canonical(query.filter, view.analyzer.words)
        run.masks = [segment.matching(wanted) for segment in view.segments]
        run.explain.matches = sum(int(np.count_nonzero(mask)) for mask in run.masks)
        run.explain.band = band_of(run.explain.matches, view.points)
        if laps is not None:
            laps.end(Stage.FILTER)
    depth = query.limit
    if mode is Mode.HYBRID:
        depth = max(query.limit, query.candidates or max(100, 4 * query.limit))
    found = {}
    for leg in legs:
        found[leg] = _LEGS[leg](run, depth)
        if laps is not None:
            laps.end(Stage(leg.value))
    _count(run.explain, found)
    best = found[legs[0]]
    if mode is Mode.HYBRID:
        best = _fused(run, found)
        if laps is not None:
            laps.end(Stage.FUSION)
    if query.score_threshold is not None:
        best = [one for one in best if one[1] >= query.score_threshold]
    return Placed(view, query, best, found, run.explain)


def _count(explain: Explain, found: Mapping[Mode, Leg]) -> None:
    explain.dense_candidates = len(found.get(Mode.DENSE, ()))
    explain.lexical_candidates = len(found.get(Mode.LEXICAL, ()))
    explain.sparse_candidates = len(found.get(Mode.SPARSE, ()))


def _fused(run: _Search, found: Mapping[Mode, Leg]) -> Leg:
    query = run.query
    weights = {
        Mode.DENSE: query.dense_weight,
        Mode.LEXICAL: query.lexical_weight,
        Mode.SPARSE: query.sparse_weight,
    }
    legs = [(leg, weights[mode]) for mode, leg in found.items()]
    fused = fuse(legs, query.fusion, query.rrf_k)
    return _best(run.view, list(fused.items()), query.limit)


def _best(view: View, leg: Leg, k: int) -> Leg:
    """The best k, ties by id."""
    if _falls(leg):
        return leg[:k]
    segments = view.segments

    def order(item: tuple[Place, float]) -> tuple[float, str]:
        (index, position), score = item
        return -score, segments[index].rows.id(position)

    return sorted(leg, key=order)[:k]


def _falls(leg: Leg) -> bool:
    """Whether each score is below the one before, as one graph mostly finds them. A walk leaves no
    code in the caches, so short code without generators is worth 20 us here."""
    last = math.inf
    for _, score in leg:
        if not score < last:
            return False
        last = score
    return True


def _dense_leg(run: _Search, k: int) -> Leg:
    view, query = run.view, run.query
    assert query.vector is not None
    vector = exact.prepare(view.metric, view.dimensions, query.vector, "vector")
    leg: Leg = []
    for index, segment in enumerate(view.segments):
        mask = segment.eligible if run.masks is None else run.masks[index] & segment.eligible
        eligible = segment.eligible_count if run.masks is None else int(np.count_nonzero(mask))
        if not eligible:
            continue
        beam = _beam(view, query, segment, mask, eligible, k, run.explain.band)
        found = None if beam is None else _walk(run, index, vector, beam, k, min(k, eligible))
        if found is None:
            run.explain.scanned += 1
            run.explain.visited += eligible
            among = None if eligible == segment.count else np.flatnonzero(mask)
            kept = segment.kept
            found = exact.scan(view.metric, kept.precise, vector, k, among, coarse=kept.coarse)
        else:
            run.explain.walked += 1
        positions, values = found
        leg.extend(
            ((index, position), score)
            for position, score in zip(positions.tolist(), values.tolist(), strict=True)
        )
    return _best(view, leg, k)


def goes_by_graph(view: View, segment: SegmentView) -> bool:
    """Whether a vector search of the view may walk this segment's graph; else it scans its rows."""
    graph = segment.graph
    return graph is not None and view.points * view.dimensions > graph.settings.exact_values


def _beam(
    view: View,
    query: Query,
    segment: SegmentView,
    mask: Mask,
    eligible: int,
    k: int,
    band: Band,
) -> Beam | None:
    """How to walk the graph of a segment for the best `k` of the `eligible` rows in the mask; None
    where a scan is better."""
    learned = query.beams.efs[band] if query.ef is None else 0
    if query.exact or learned == EXACT or not goes_by_graph(view, segment):
        return None
    assert segment.graph is not None
    asked = query.ef or learned
    own = segment.graph.settings.ef_search
    if not asked and eligible < plan.FILTERED_SHARE * segment.live_count:
        own = min(plan.FILTERED_BEAM * own, EF_MAX)
    ef = max(own, asked, k)
    coded = _by_codes(view, segment)
    visits_max = plan.choose(count=segment.count, eligible=eligible, ef=ef, coded=coded)
    if visits_max is None:
        return None
    return Beam(
        # All of the beam: more than k may tie.
        k=ef,
        ef=ef,
        allowed=None if eligible == segment.count else mask,
        visits_max=visits_max,
        # The beam is no wider for it: with one of k, the narrowest, coarse vectors lose two in
        # 1,000 of the hits that precise ones find, at k 10, and less at k 100 (20,000 x 384).
        precise=None if _walked(view, segment) is segment.kept.precise else segment.kept.precise,
        settled=k + k // 2,
    )


def _by_codes(view: View, segment: SegmentView) -> bool:
    return segment.kept.coarse is not None and view.metric is not Metric.EUCLIDEAN


def _walked(view: View, segment: SegmentView) -> Vectors:
    """What the graph of a segment is walked by: codes where there are some, in half the time of
    float32. Euclidean distances gain nothing by them, and read them only where a collection
    keeps its vectors as int8."""
    kept = segment.kept
    if kept.coarse is None or not (_by_codes(view, segment) or kept.storage is Storage.INT8):
        return kept.precise
    return kept.coarse


def estimate_ns(view: View, query: Query) -> float:
    """About what a search by vector alone, without a filter, takes."""
    total_ns = 0.0
    for segment in view.segments:
        rows = segment.eligible_count
        beam = _beam(view, query, segment, segment.eligible, rows, query.limit, Band.ALL)
        if beam is None:
            total_ns += plan.scan_ns(rows, coded=_by_codes(view, segment))
        else:
            total_ns += plan.walk_ns(beam.ef)
    return total_ns * view.dimensions / plan.DIMENSIONS


def walk_together(view: View, queries: Sequence[Query]) -> list[Walks]:
    """Walks for `place`, of each of many queries: those alike are walked one after the other, which
    saves the waiting in between. None for those that are not by vector alone, or have a filter, or
    are not valid, which `place` says."""
    found: list[dict[int, Walk]] = [{} for _ in queries]
    vectors: dict[int, Vector] = {}
    for number, query in enumerate(queries):
        with contextlib.suppress(RagmeshError):
            check(query)
            if query.filter is None and legs_of(query)[1] == (Mode.DENSE,):
                assert query.vector is not None
                vectors[number] = exact.prepare(
                    view.metric, view.dimensions, query.vector, "vector"
                )
    for index, segment in enumerate(view.segments):
        alike: dict[tuple[int, int], tuple[Beam, list[int]]] = {}
        for number in vectors if segment.eligible_count else ():
            query, eligible = queries[number], segment.eligible_count
            beam = _beam(view, query, segment, segment.eligible, eligible, query.limit, Band.ALL)
            if beam is not None:
                alike.setdefault((beam.ef, beam.settled), (beam, []))[1].append(number)
        for beam, numbers in alike.values():
            assert segment.graph is not None
            asked = np.stack([vectors[number] for number in numbers])
            walked = segment.graph.search_together(_walked(view, segment), asked, beam)
            for number, walk in zip(numbers, walked, strict=True):
                found[number][index] = walk
    return list(found)


def _walk(
    run: _Search, index: int, vector: Vector, beam: Beam, k: int, wanted: int
) -> tuple[Positions, NDArray[np.float32]] | None:
    """About the best k by graph, and those that tie with the last; None if that found fewer than
    `wanted`."""
    segment = run.view.segments[index]
    assert segment.graph is not None
    found = run.walks.get(index) or segment.graph.search(_walked(run.view, segment), vector, beam)
    run.explain.visited += found.visited
    run.explain.ef = max(run.explain.ef, beam.ef)
    if not found.complete or len(found.positions) < wanted:
        run.explain.widened += 1
        return None
    return _with_ties(found.positions, found.scores, k)


def _with_ties(
    positions: Positions, scores: NDArray[np.float32], k: int
) -> tuple[Positions, NDArray[np.float32]]:
    """The first k of descending scores, and those that tie with the k-th."""
    if len(scores) <= k:
        return positions, scores
    last = scores[k - 1]
    end = k
    while end < len(scores) and scores[end] == last:
        end += 1
    return positions[:end], scores[:end]


def _lexical_leg(run: _Search, k: int) -> Leg:
    view, masks = run.view, run.masks
    words = view.analyzer.query(run.query.text or "")
    if run.explain.matches == 0 or not words:
        return []
    parts = [
        Part(
            rows=segment.rows.words,
            count=segment.count,
            live=segment.live if segment.tombstones else None,
            documents=segment.texts,
            words=segment.text_words,
            allowed=None if masks is None else masks[index],
        )
        for index, segment in enumerate(view.segments)
    ]
    leg: Leg = []
    ranked = ranking(parts, words)
    run.explain.lexical_postings = sum(
        len(word.postings.positions) for words in ranked.lists for word in words
    )
    for index, (positions, scores) in enumerate(ranked.top(k)):
        leg.extend(
            ((index, position), score)
            for position, score in zip(positions.tolist(), scores.tolist(), strict=True)
        )
    return _best(view, leg, k)


def _sparse_leg(run: _Search, k: int) -> Leg:
    view, masks = run.view, run.masks
    assert run.query.sparse is not None
    if run.explain.matches == 0:
        return []
    places, parts = [], []
    for index, segment in enumerate(view.segments):
        rows = segment.rows.sparse
        if rows is None:
            continue
        allowed = segment.live if segment.tombstones else None
        places.append(index)
        parts.append(sparse.Part(rows, segment.count, allowed if masks is None else masks[index]))
    found = sparse.top(parts, run.query.sparse, k)
    run.explain.sparse_postings = found.entries
    leg: Leg = []
    for index, (positions, scores) in zip(places, found.hits, strict=True):
        leg.extend(
            ((index, position), score)
            for position, score in zip(positions.tolist(), scores.tolist(), strict=True)
        )
    return _best(view, leg, k)


_LEGS: Final[Mapping[Mode, Callable[[_Search, int], Leg]]] = {
    Mode.DENSE: _dense_leg,
    Mode.LEXICAL: _lexical_leg,
    Mode.SPARSE: _sparse_leg,
}
