"""What users may rely on of a search: scores, ties, fusion, bounds and errors as documented."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DimensionMismatch, InvalidField, InvalidVector, RagmeshError
from engine.index import (
    CollectionIndex,
    GraphSettings,
    IndexSettings,
    MaintenanceSettings,
    Metric,
    Mode,
    Query,
    get,
    search,
)
from engine.index.exact import prepare, prepare_rows
from engine.index.filters import Range
from engine.index.fusion import reciprocal_rank_fusion
from engine.index.plan import choose
from engine.index.search import place, walk_together
from engine.types import Point, Span
from tests.engine.index.sealing import loaded, maintain

ITEMS = st.lists(st.integers(0, 20), unique=True, max_size=12)


@given(ITEMS, ITEMS, st.floats(0.1, 100), st.floats(0, 5), st.floats(0, 5))
def test_fusion_is_the_published_formula(
    first: list[int], second: list[int], k: float, one: float, two: float
) -> None:
    fused = reciprocal_rank_fusion([(first, one), (second, two)], k)
    assert fused.keys() == {*first, *second}
    for item, score in fused.items():
        expected = 0.0
        for leg, weight in ((first, one), (second, two)):
            if item in leg:
                expected += weight / (k + leg.index(item) + 1)
        assert score == pytest.approx(expected)


def _points(vectors: Any, texts: list[str] | None = None) -> list[Point]:
    return [
        Point(f"{n:03d}", np.array(vector, np.float32), texts[n] if texts else "", {"n": n})
        for n, vector in enumerate(vectors)
    ]


def _applied(points: list[Point], metric: Metric = Metric.COSINE) -> CollectionIndex:
    dimensions = 2 if points[0].vector is None else len(points[0].vector)
    index = CollectionIndex(IndexSettings(dimensions, metric, graph=GraphSettings(exact_values=0)))
    index.apply(points, [], 1, "a")
    return index


def test_hybrid_scores_are_the_fusion_of_both_legs() -> None:
    index = _applied(_points([[1, 0], [0.9, 0.1], [0, 1]], ["nothing", "red apple", "apple apple"]))
    query = Query(
        np.array([1, 0], np.float32), "apple", rrf_k=5, dense_weight=2, lexical_weight=0.5
    )
    results = search(index.view, query)
    assert results.explain.mode is Mode.HYBRID
    scores = {hit.point.id: hit.score for hit in results.hits}
    assert scores == pytest.approx(
        {"000": 2 / 6, "001": 2 / 7 + 0.5 / 7, "002": 2 / 8 + 0.5 / 6}, rel=1e-6
    )
    assert [hit.point.id for hit in results.hits] == ["001", "000", "002"]
    assert results.hits[1].lexical_score is None
    assert results.hits[1].dense_score == pytest.approx(1.0)
    cut = search(index.view, Query(query.vector, "apple", rrf_k=5, score_threshold=0.2)).hits
    assert all(hit.score >= 0.2 for hit in cut)
    assert [hit.point.id for hit in cut] == ["002", "001"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(Metric.COSINE, 0.6), (Metric.DOT, 6.0), (Metric.EUCLIDEAN, -math.sqrt(17.0))],
)
def test_scores_are_in_the_unit_of_the_metric(metric: Metric, expected: float) -> None:
    index = _applied(_points([[3, 4]]), metric)
    hit = search(index.view, Query(np.array([2, 0], np.float32))).hits[0]
    assert hit.score == hit.dense_score == pytest.approx(expected, rel=1e-6)


def test_equal_vectors_come_in_the_order_of_their_ids_in_buffers_and_graphs() -> None:
    rng = np.random.default_rng(2)
    vector = rng.normal(size=40).astype(np.float32)
    bounds = MaintenanceSettings(seal_rows=50)
    index = CollectionIndex(
        IndexSettings(40, maintenance=bounds, graph=GraphSettings(exact_values=0))
    )
    ids = [f"{n * 37 % 80:03d}" for n in range(80)]
    index.apply([Point(id, vector) for id in ids[:50]], [], 1, "a")
    maintain(index)
    assert index.view.segments[0].graph is not None
    index.apply([Point(id, vector) for id in ids[50:]], [], 2, "b")
    for exact in (True, False):
        hits = search(index.view, Query(vector, limit=80, exact=exact)).hits
        assert [hit.point.id for hit in hits] == sorted(ids)
        assert len({hit.score for hit in hits}) == 1
    assert search(index.view, Query(vector, limit=3, exact=True)).hits == hits[:3]


def test_vectors_come_back_prepared_and_only_when_asked_for() -> None:
    index = _applied(_points([[3, 4]]))
    vector = np.array([1, 0], np.float32)
    assert search(index.view, Query(vector)).hits[0].point.vector is None
    hit = search(index.view, Query(vector, with_vectors=True)).hits[0]
    np.testing.assert_allclose(hit.point.vector, [0.6, 0.8], rtol=1e-6)  # type: ignore[arg-type]
    assert get(index.view, ["000"])[0].vector is None
    np.testing.assert_allclose(get(index.view, ["000"], with_vectors=True)[0].vector, [0.6, 0.8])  # type: ignore[arg-type]


ONE = np.array([1, 0], np.float32)


@pytest.mark.parametrize(
    ("query", "error", "field"),
    [
        (Query(), InvalidField, "query"),
        (Query(text=""), InvalidField, "query"),
        (Query(ONE, mode=Mode.LEXICAL), InvalidField, "text"),
        (Query(ONE, mode=Mode.HYBRID), InvalidField, "text"),
        (Query(text="a", mode=Mode.DENSE), InvalidField, "vector"),
        (Query(ONE, limit=0), InvalidField, "limit"),
        (Query(ONE, limit=1_001), InvalidField, "limit"),
        (Query(ONE, candidates=0), InvalidField, "candidates"),
        (Query(ONE, ef=5_000), InvalidField, "ef"),
        (Query(ONE, rrf_k=0), InvalidField, "rrf_k"),
        (Query(ONE, dense_weight=-1), InvalidField, "dense_weight"),
        (Query(ONE, lexical_weight=math.nan), InvalidField, "lexical_weight"),
        (Query(ONE, score_threshold=math.nan), InvalidField, "score_threshold"),
        (Query(np.zeros(2, np.float32)), InvalidVector, "vector"),
        (Query(np.array([math.nan, 1], np.float32)), InvalidVector, "vector"),
        (Query(np.array([math.inf, 1], np.float32)), InvalidVector, "vector"),
        (Query(np.ones(3, np.float32)), DimensionMismatch, "vector"),
        (Query(np.ones((1, 2), np.float32)), DimensionMismatch, "vector"),
    ],
)
def test_searches_that_cannot_be_done_say_which_field_is_wrong(
    query: Query, error: type[RagmeshError], field: str
) -> None:
    with pytest.raises(error) as caught:
        search(_applied(_points([[1, 0]])).view, query)
    assert caught.value.field == field


def test_hits_with_their_ids_only_are_the_same_hits() -> None:
    points = [
        Point(f"{n:02}", np.array([n, 1], np.float32), "words", {"n": n}) for n in range(12)
    ] + [
        Point(f"d#{n}", np.array([n, 2], np.float32), "words", {}, None, "d", n, Span(n, n + 1))
        for n in range(12)
    ]
    query = Query(np.array([1, 1], np.float32), "words", limit=24)
    for index in (_applied(points), loaded(IndexSettings(2), points)):
        whole = search(index.view, query).hits
        named = search(index.view, dataclasses.replace(query, ids_only=True)).hits
        for one, other in zip(named, whole, strict=True):
            assert (one.score, one.point.id) == (other.score, other.point.id)
            assert one.point.document == other.point.document
            assert one.point.passage_index == other.point.passage_index
            assert one.point.span == other.point.span
    assert not any(one.point.text or one.point.payload for one in named)


def test_an_empty_index_finds_nothing_and_a_limit_may_exceed_the_points() -> None:
    index = CollectionIndex(IndexSettings(2))
    assert search(index.view, Query(ONE, "text", limit=1_000)).hits == ()
    index.apply(_points([[1, 0], [0, 1]]), [], 1, "a")
    assert len(search(index.view, Query(ONE, limit=1_000)).hits) == 2


def test_a_refused_batch_changes_nothing() -> None:
    index = _applied(_points([[1, 0]], ["first"]))
    before = index.view
    bad = [Point("new", ONE, "second"), Point("bad", np.zeros(2, np.float32))]
    with pytest.raises(InvalidVector) as caught:
        index.apply(bad, ["000"], 2, "b")
    assert caught.value.field == "points[1].vector"
    with pytest.raises(ValueError, match="below the present"):
        index.apply([], [], 0, "c")
    assert index.view is before
    assert search(index.view, Query(text="second")).hits == ()


@given(st.floats(1e-36, 1e36), st.floats(1e-36, 1e36))
def test_vectors_of_any_finite_size_are_normalized(x: float, y: float) -> None:
    out = prepare(Metric.COSINE, 2, np.array([x, y], np.float32), "vector")
    assert float(np.linalg.norm(out.astype(np.float64))) == pytest.approx(1.0, abs=1e-6)


def test_all_rows_are_found_where_many_are_equal_and_links_are_few() -> None:
    rng = np.random.default_rng(4)
    vectors = np.repeat(rng.normal(size=(6, 8)), 100, 0).astype(np.float32)
    index = CollectionIndex(
        IndexSettings(
            8, graph=GraphSettings(2, 4, 4, 0), maintenance=MaintenanceSettings(seal_rows=10)
        )
    )
    index.apply(_points(vectors), [], 1, "a")
    maintain(index)
    assert index.view.segments[0].graph is not None
    hits = search(index.view, Query(vectors[0], limit=599)).hits
    assert len(hits) == 599
    filtered = search(index.view, Query(vectors[0], limit=500, filter=Range("n", gte=0))).hits
    assert len(filtered) == 500


@given(st.integers(1, 300_000), st.floats(0, 1), st.integers(1, 4_096), st.booleans())
def test_a_walk_never_costs_more_than_the_scan_that_it_saves(
    count: int, share: float, ef: int, coded: bool
) -> None:
    eligible = round(count * share)
    visits_max = choose(count=count, eligible=eligible, ef=ef, coded=coded)
    if visits_max is not None:
        assert ef < visits_max <= eligible


@given(
    st.sampled_from(Metric),
    st.lists(
        st.lists(st.floats(-(2.0**70), 2.0**70, width=32), min_size=3, max_size=3) | st.none(),
        max_size=8,
    ),
)
def test_vectors_that_come_together_are_prepared_as_each_would_be_alone(
    metric: Metric, rows: list[list[float] | None]
) -> None:
    vectors = [None if row is None else np.array(row, np.float32) for row in rows]

    def alone() -> list[Any]:
        return [
            None if one is None else prepare(metric, 3, one, f"points[{n}].vector").tobytes()
            for n, one in enumerate(vectors)
        ]

    def together() -> list[Any]:
        prepared = prepare_rows(metric, 3, vectors, "points")
        return [None if one is None else one.tobytes() for one in prepared]

    assert _outcome(alone) == _outcome(together)


def _outcome(prepares: Callable[[], list[Any]]) -> list[Any] | str:
    try:
        return prepares()
    except InvalidVector as error:
        return error.field


@pytest.mark.usefixtures("walks")
def test_searches_whose_graphs_were_walked_together_find_what_they_find_alone() -> None:
    """Those alike are; others, and those that cannot be done, are left to themselves."""
    rng = np.random.default_rng(7)
    bounds = MaintenanceSettings(seal_rows=600, segments_few=9)
    index = CollectionIndex(
        IndexSettings(24, maintenance=bounds, graph=GraphSettings(exact_values=0))
    )
    rows = rng.normal(size=(1_300, 24)).astype(np.float32)
    for start in (0, 600, 1_200):
        points = [
            Point(f"{n:04d}", rows[n], "even" if n % 2 else "odd", {"n": n})
            for n in range(start, min(1_300, start + 600))
        ]
        index.apply(points, [f"{start - 1:04d}"] if start else [], start + 1, f"c{start}")
        maintain(index)
    assert sum(segment.graph is not None for segment in index.view.segments) >= 2
    queries = [
        *(Query(one) for one in rng.normal(size=(9, 24)).astype(np.float32)),
        Query(rows[5], limit=40),
        Query(rows[6], ef=100),
        Query(rows[7], exact=True),
        Query(rows[8], filter=Range("n", lt=90.0)),
        Query(rows[9], "even"),
        Query(text="odd"),
        Query(np.zeros(24, np.float32)),
        Query(np.ones(3, np.float32)),
    ]
    walks = walk_together(index.view, queries)
    assert [len(one) > 0 for one in walks] == [True] * 11 + [False] * 6
    for query, one in zip(queries[:-2], walks, strict=False):
        alone, ahead = place(index.view, query), place(index.view, query, walks=one)
        assert ahead.best == alone.best
        assert ahead.explain == alone.explain
    for query, one in zip(queries[-2:], walks[-2:], strict=True):
        with pytest.raises(RagmeshError):
            place(index.view, query, walks=one)
