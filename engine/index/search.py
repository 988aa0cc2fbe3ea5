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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidField
from engine.index import exact, plan
from engine.index.exact import Metric, Positions
from engine.index.filters import Filter, canonical
from engine.index.fusion import RRF_K_DEFAULT, reciprocal_rank_fusion
from engine.index.lexical import ROW_SET_MAX
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
    own `ef_search`, never narrows it. `exact` scans every row.
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
    exact: bool = False
    score_threshold: float | None = None
    with_vectors: bool = False


@dataclass(slots=True)
class Explain:
    """How a search was done.

    `matches` is how many points satisfy the filter, None without one. `scanned` and `walked` are
    segments searched by scan and by graph; `widened` how often a leg asked again for more;
    `dense_candidates` and `lexical_candidates` what each leg brought.
    """

    mode: Mode
    matches: int | None = None
    segments: int = 0
    scanned: int = 0
    walked: int = 0
    widened: int = 0
    dense_candidates: int = 0
    lexical_candidates: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """Hits, best first, of the view whose watermark this is."""

    hits: tuple[Hit, ...]
    explain: Explain
    watermark: int


_TIES_SEEN = 8
"""Neighbors past the k-th that are looked at one by one for a tie."""

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
        wanted = canonical(query.filter)
        run.masks = [segment.matching(wanted) for segment in view.segments]
        run.explain.matches = sum(int(np.count_nonzero(mask)) for mask in run.masks)
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
    return lambda place: segments[place[0]].segment.points[place[1]]


def _best(view: View, leg: Leg, k: int) -> Leg:
    """The best k, ties by id."""
    if all(better[1] > other[1] for better, other in pairwise(leg)):
        return leg[:k]  # as one graph mostly finds them
    segments = view.segments

    def order(item: tuple[Place, float]) -> tuple[float, str]:
        (index, position), score = item
        return -score, segments[index].segment.points[position].id

    return sorted(leg, key=order)[:k]


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
        positions = None
        if not query.exact and goes_by_graph(view, segment):
            positions = _walk(run, segment, vector, mask, eligible, k)
        if positions is None:
            run.explain.scanned += 1
            among = None if eligible == segment.count else np.flatnonzero(mask)
            positions, values = exact.scan(view.metric, segment.vectors, vector, k, among)
        else:
            run.explain.walked += 1
            values = exact.scores(view.metric, segment.vectors[positions], vector)
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
    run: _Search, segment: SegmentView, vector: Vector, mask: Mask, eligible: int, k: int
) -> Positions | None:
    """Positions of about the best k by graph, and those that tie; None if a scan is better."""
    graph = segment.graph
    assert graph is not None
    ef = max(graph.settings.ef_search, run.query.ef or 0)
    chosen = plan.choose(count=graph.count, eligible=eligible, k=k, ef=ef)
    neighbors = chosen.neighbors
    while neighbors is not None and neighbors <= chosen.neighbors_max:
        found = graph.search(vector, neighbors)
        if found is None:
            return None
        positions, distances = found
        if eligible < graph.count:
            keep = mask[positions]
            positions, distances = positions[keep], distances[keep]
        if len(positions) >= min(k, eligible):
            return positions[: _cut(run.view.metric, distances, k)]
        neighbors *= plan.WIDENING
        run.explain.widened += 1
    return None


def _cut(metric: Metric, distances: NDArray[np.float32], k: int) -> int:
    """How many of ascending distances to keep so that none that ties with the k-th is lost.

    The slack is for hnswlib's order of summation, which is not `exact.scores`'.
    """
    nearest: list[float] = distances[: k + _TIES_SEEN].tolist()
    if len(nearest) <= k:
        return len(nearest)
    last = nearest[k - 1]
    slack = 1e-5 * abs(last) if metric is Metric.EUCLIDEAN else 1e-5 * (1.0 + abs(last))
    if nearest[-1] <= last + slack:
        return int(np.searchsorted(distances, last + slack, "right"))
    # Mostly one comparison; searchsorted would take 12 µs after a walk through the graph.
    return next(i for i in range(k, len(nearest)) if nearest[i] > last + slack)


def _lexical_leg(run: _Search, k: int) -> Leg:
    view, masks = run.view, run.masks
    lexical = view.lexical
    query = lexical.query(run.query.text or "")
    total = lexical.rows
    if query is None or not total or run.explain.matches == 0:
        return []
    wanted = k + 16  # room to see that ties end
    keep: Callable[[Positions], Mask] | None = None
    if masks is not None:
        matches = run.explain.matches or 0
        overfetched = int(plan.OVERFETCH * wanted * view.points / matches)
        if matches <= min(ROW_SET_MAX, overfetched):
            rows = [
                segment.rows[np.flatnonzero(mask)]
                for segment, mask in zip(view.segments, masks, strict=True)
            ]
            query = lexical.among(query, np.concatenate(rows).tolist())
        else:
            keep = _row_filter(view, masks)
            wanted = overfetched
    while True:
        rows_found, values = lexical.top(query, wanted)
        exhausted = len(rows_found) < wanted or wanted >= total
        last = float(values[-1]) if len(values) else 0.0
        if keep is not None:
            kept = keep(rows_found)
            rows_found, values = rows_found[kept], values[kept]
        # Enough only if what was not fetched cannot tie with the k-th.
        if exhausted or (len(values) >= k and last < float(values[k - 1])):
            break
        wanted *= plan.WIDENING
        run.explain.widened += 1
    if len(values) > k:
        ties = int(np.count_nonzero(values >= values[k - 1]))
        rows_found, values = rows_found[:ties], values[:ties]
    places = _places(view, rows_found)
    return _best(view, list(zip(places, values.tolist(), strict=True)), k)


def _row_filter(view: View, masks: list[Mask]) -> Callable[[Positions], Mask]:
    def keep(rows: Positions) -> Mask:
        indexes, positions = _locate(view, rows)
        out = np.zeros(len(rows), np.bool_)
        for index, mask in enumerate(masks):
            chosen = indexes == index
            out[chosen] = mask[positions[chosen]]
        return out

    return keep


def _places(view: View, rows: Positions) -> list[Place]:
    indexes, positions = _locate(view, rows)
    return list(zip(indexes.tolist(), positions.tolist(), strict=True))


def _locate(view: View, rows: Positions) -> tuple[Positions, Positions]:
    """Segment indexes and positions of row numbers of a view; all of them are in it."""
    indexes = np.searchsorted(view.first_rows, rows, "right") - 1
    positions = np.empty(len(rows), np.int64)
    for index, segment in enumerate(view.segments):
        chosen = indexes == index
        positions[chosen] = segment.positions_of(rows[chosen])
    return indexes, positions
