"""Search of one view: by vector, by words, or both fused; exact under any filter.

The legs choose candidates and score them; ties are broken by id, so the same view and query give
the same answer. The dense leg is approximate in the segments that have a graph, unless `exact`
is asked for or the plan chose to scan; the lexical leg and filters are always exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import score_rows

from engine.errors import InvalidField
from engine.index import exact, plan
from engine.index.beams import EXACT, OWN_BEAMS, Band, Beams, band_of
from engine.index.bm25 import Part, ranking
from engine.index.exact import Positions
from engine.index.filters import Filter, canonical
from engine.index.fusion import RRF_K_DEFAULT, reciprocal_rank_fusion
from engine.index.payloads import Mask
from engine.index.segment import SegmentView
from engine.index.view import View
from engine.types import Hit, Point, Vector

LIMIT_MAX = 1_000
CANDIDATES_MAX = 10_000
EF_MAX = 4_096


class Mode(StrEnum):
    """Which legs search."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Query:
    """What to find.

    `mode` None follows from what is given: a vector, a text, or both. `candidates` is how many
    each leg brings to the fusion, by default max(100, 4 x limit). A hit's `score` is the leg's
    own in the dense and lexical modes (see `exact` for metrics; BM25), the fused one in hybrid;
    hits below `score_threshold` are left out. `ef` widens the graph search over the collection's
    own `ef_search`, never narrows it. `beams` do so by selectivity where `ef` is not given. `exact`
    scans every row.
    """

    vector: Vector | None = None
    text: str | None = None
    filter: Filter | None = None
    limit: int = 10
    mode: Mode | None = None
    candidates: int | None = None
    rrf_k: float = RRF_K_DEFAULT
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    ef: int | None = None
    beams: Beams = OWN_BEAMS
    exact: bool = False
    score_threshold: float | None = None
    with_vectors: bool = False


@dataclass(slots=True)
class Explain:
    """How a search was done.

    `matches` is how many points satisfy the filter, None without one. `scanned` and `walked` are
    segments searched by scan and by graph; `widened` counts walks that were given up for a scan;
    `visited` rows whose distance was computed; `dense_candidates` and `lexical_candidates` what
    each leg brought. `band` is of the selectivity, `ef` the widest beam that walked.
    """

    mode: Mode
    matches: int | None = None
    segments: int = 0
    scanned: int = 0
    walked: int = 0
    widened: int = 0
    visited: int = 0
    dense_candidates: int = 0
    lexical_candidates: int = 0
    band: Band = Band.ALL
    ef: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """Hits, best first, of the view whose watermark this is."""

    hits: tuple[Hit, ...]
    explain: Explain
    watermark: int


Place = tuple[int, int]
"""Segment index and position: a row of a view."""

Leg = list[tuple[Place, float]]
"""Candidates with their scores, best first, ties by id."""


@dataclass(slots=True)
class _Search:
    view: View
    query: Query
    explain: Explain
    masks: list[Mask] | None = field(default=None)


def search(view: View, query: Query) -> Results:
    """The best points of a view.

    Raises InvalidField, InvalidFilter, InvalidVector or DimensionMismatch; never anything about
    how many points there are: fewer hits than `limit` means that no more qualify.
    """
    mode = _mode(query)
    _check(query)
    run = _Search(view, query, Explain(mode, segments=len(view.segments)))
    if query.filter is not None:
        wanted = canonical(query.filter, view.analyzer.words)
        run.masks = [segment.matching(wanted) for segment in view.segments]
        run.explain.matches = sum(int(np.count_nonzero(mask)) for mask in run.masks)
        run.explain.band = band_of(run.explain.matches, view.points)
    depth = query.limit
    if mode is Mode.HYBRID:
        depth = max(query.limit, query.candidates or max(100, 4 * query.limit))
    dense = _dense_leg(run, depth) if mode is not Mode.LEXICAL else []
    lexical = _lexical_leg(run, depth) if mode is not Mode.DENSE else []
    run.explain.dense_candidates, run.explain.lexical_candidates = len(dense), len(lexical)
    if mode is Mode.HYBRID:
        hits = _fused(run, dense, lexical)
    else:
        point = _point_getter(run)
        hits = [Hit(point(place), score, score, None) for place, score in dense]
        hits += [Hit(point(place), score, None, score) for place, score in lexical]
    if query.score_threshold is not None:
        hits = [hit for hit in hits if hit.score >= query.score_threshold]
    return Results(tuple(hits), run.explain, view.watermark)


def _mode(query: Query) -> Mode:
    has_vector, has_text = query.vector is not None, bool(query.text)
    mode = query.mode
    if mode is None:
        if not has_vector and not has_text:
            raise InvalidField("the search has neither text nor vector; give one", field="query")
        if has_vector and has_text:
            return Mode.HYBRID
        return Mode.DENSE if has_vector else Mode.LEXICAL
    for missing, name in (
        (mode is not Mode.LEXICAL and not has_vector, "vector"),
        (mode is not Mode.DENSE and not has_text, "text"),
    ):
        if missing:
            raise InvalidField(
                f"a {mode} search needs a {name}; give one, or choose another mode",
                field=name,
                metadata={"mode": mode, "missing": name},
            )
    return mode


def _check(query: Query) -> None:
    for name, value, least, most in (
        ("limit", query.limit, 1, LIMIT_MAX),
        ("candidates", query.candidates, 1, CANDIDATES_MAX),
        ("ef", query.ef, 1, EF_MAX),
        ("rrf_k", query.rrf_k, 0.001, 10_000),
        ("dense_weight", query.dense_weight, 0, 1_000),
        ("lexical_weight", query.lexical_weight, 0, 1_000),
    ):
        if value is not None and not least <= value <= most:
            raise InvalidField(
                f"{name} is {value}; give {least} to {most}",
                field=name,
                metadata={"name": name, "value": value, "least": least, "most": most},
            )
    if query.score_threshold is not None and math.isnan(query.score_threshold):
        raise InvalidField("score_threshold is not a number; give one", field="score_threshold")


def _fused(run: _Search, dense: Leg, lexical: Leg) -> list[Hit]:
    query = run.query
    fused = reciprocal_rank_fusion(
        (
            ([place for place, _ in dense], query.dense_weight),
            ([place for place, _ in lexical], query.lexical_weight),
        ),
        query.rrf_k,
    )
    dense_scores, lexical_scores = dict(dense), dict(lexical)
    point = _point_getter(run)
    return [
        Hit(point(place), score, dense_scores.get(place), lexical_scores.get(place))
        for place, score in _best(run.view, list(fused.items()), query.limit)
    ]


def _point_getter(run: _Search) -> Callable[[Place], Point]:
    segments = run.view.segments
    if run.query.with_vectors:
        return lambda place: segments[place[0]].point(place[1], with_vector=True)
    return lambda place: segments[place[0]].rows.point(place[1])


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
    learned = query.beams.efs[run.explain.band] if query.ef is None else 0
    for index, segment in enumerate(view.segments):
        mask = segment.eligible if run.masks is None else run.masks[index] & segment.eligible
        eligible = segment.eligible_count if run.masks is None else int(np.count_nonzero(mask))
        if not eligible:
            continue
        found = None
        if not query.exact and learned != EXACT and goes_by_graph(view, segment):
            ef = query.ef or learned
            found = _walk(run, segment, vector, mask, eligible, ef, k)
        if found is None:
            run.explain.scanned += 1
            run.explain.visited += eligible
            among = None if eligible == segment.count else np.flatnonzero(mask)
            found = exact.scan(view.metric, segment.kept.precise, vector, k, among)
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


def _walk(
    run: _Search, segment: SegmentView, vector: Vector, mask: Mask, eligible: int, ef: int, k: int
) -> tuple[Positions, NDArray[np.float32]] | None:
    """About the best k by graph, and those that tie with the last; None if a scan is better."""
    graph = segment.graph
    assert graph is not None
    kept = segment.kept
    own = graph.settings.ef_search
    if not ef and eligible < plan.FILTERED_SHARE * segment.live_count:
        own = min(plan.FILTERED_BEAM * own, EF_MAX)
    ef = max(own, ef, k)
    visits_max = plan.choose(count=segment.count, eligible=eligible, ef=ef)
    if visits_max is None:
        return None
    found = graph.search(
        kept.walked,
        vector,
        ef,
        ef,
        allowed=None if eligible == segment.count else mask,
        visits_max=visits_max,
    )
    run.explain.visited += found.visited
    run.explain.ef = max(run.explain.ef, ef)
    if not found.complete or len(found.positions) < min(k, eligible):
        run.explain.widened += 1
        return None
    if not kept.rescored:
        return _with_ties(found.positions, found.scores, k)
    # The beam is no wider for it: with one of k, the narrowest, coarse vectors lose two in 1,000 of
    # the hits that precise ones find, at k 10, and less at k 100 (20,000 x 384).
    scores = score_rows(kept.precise, vector, exact.NATIVE[run.view.metric], found.positions)
    order = np.lexsort((found.positions, -scores))
    return _with_ties(found.positions[order], scores[order], k)


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
    for index, (positions, scores) in enumerate(ranking(parts, words).top(k)):
        leg.extend(
            ((index, position), score)
            for position, score in zip(positions.tolist(), scores.tolist(), strict=True)
        )
    return _best(view, leg, k)
