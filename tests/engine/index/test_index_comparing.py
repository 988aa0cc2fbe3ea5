"""What decides whether a rebuilt segment is taken: recall before and after, on the same queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.index import CollectionIndex, GraphSettings, IndexSettings, Metric
from engine.index.comparing import Comparison, compare, part, sample_queries
from engine.index.maintenance import MaintenanceSettings, Reason, Work, choose_compaction
from engine.index.segment import SegmentView
from engine.types import Point
from tests.engine.index.sealing import built, loaded, maintain

DIMENSIONS = 24
VECTORS = np.random.default_rng(5).normal(size=(1_500, DIMENSIONS)).astype(np.float32)
GOOD = GraphSettings(m=16, ef_construction=100, ef_search=64, exact_values=0)
BAD = GraphSettings(m=2, ef_construction=4, ef_search=1, exact_values=0)


def index_of(graph: GraphSettings, metric: Metric = Metric.COSINE) -> CollectionIndex:
    points = [Point(f"p{number:04d}", vector) for number, vector in enumerate(VECTORS)]
    return loaded(IndexSettings(DIMENSIONS, metric, graph=graph), points)


@pytest.mark.parametrize("metric", list(Metric))
def test_a_worse_graph_is_seen_and_an_equal_one_is_not_blamed(metric: Metric) -> None:
    good, bad = index_of(GOOD, metric), index_of(BAD, metric)
    queries = sample_queries(good.view, 64)
    worse = compare(good.view, bad.view, queries)
    assert worse.queries == 64 and worse.wanted == 640
    assert worse.worse and worse.recall_after < 0.9 < worse.recall_before <= 1.0
    assert not compare(bad.view, good.view, queries).worse
    same = compare(bad.view, bad.view, queries)
    assert not same.worse and same.recall_before == same.recall_after < 0.9


def test_what_is_scanned_has_a_recall_of_one() -> None:
    scanned = index_of(dataclasses.replace(BAD, exact_values=DIMENSIONS * len(VECTORS)))
    found = compare(scanned.view, scanned.view, sample_queries(scanned.view, 32))
    assert found.recall_before == found.recall_after == 1.0


def test_ties_count_as_found() -> None:
    vectors = np.ones((40, DIMENSIONS), np.float32)
    points = [Point(f"p{number:02d}", vector) for number, vector in enumerate(vectors)]
    index = loaded(IndexSettings(DIMENSIONS, graph=GOOD), points)
    found = compare(index.view, index.view, [VECTORS[0]])
    assert found.recall_before == 1.0


def test_queries_are_the_same_for_the_same_view_and_near_living_rows_only() -> None:
    index = index_of(GOOD, Metric.EUCLIDEAN)
    gone = [f"p{number:04d}" for number in range(0, len(VECTORS), 2)]
    index.apply([], gone, 2, "c2")
    queries = sample_queries(index.view, 50)
    assert len(queries) == 50
    for one, other in zip(queries, sample_queries(index.view, 50), strict=True):
        np.testing.assert_array_equal(one, other)
    for query in queries:
        nearest = int(np.argmin(np.linalg.norm(VECTORS - query, axis=1)))
        assert nearest % 2 == 1
    assert len(sample_queries(index.view, 10_000)) == index.view.points


def test_nothing_is_asked_of_a_collection_without_vectors() -> None:
    index = loaded(IndexSettings(DIMENSIONS), [Point("words", None, "only words")])
    assert sample_queries(index.view, 8) == []
    assert sample_queries(CollectionIndex(IndexSettings(DIMENSIONS)).view, 8) == []
    nothing = compare(index.view, index.view, [])
    assert (nothing.recall_before, nothing.recall_after, nothing.worse) == (1.0, 1.0, False)


def test_a_preview_is_what_adopting_leads_to_and_changes_nothing() -> None:
    index = index_of(GOOD)
    index.apply([], [f"p{number:04d}" for number in range(600)], 2, "c2")
    [work] = index.compaction()
    segment = built(index, work)
    before = index.view
    preview = index.preview(before, [segment], work.retired)
    assert index.view is before and index.segments == work.retired
    queries = sample_queries(before, 32)
    index.adopt([segment], work.retired, index.sealed_seq)
    assert compare(before, preview, queries) == compare(before, index.view, queries)
    assert [one.count for one in preview.segments] == [900]
    alone = compare(part(before, before.segments), part(preview, preview.segments), queries)
    assert alone == compare(before, preview, queries)


@given(st.integers(0, 2_000), st.integers(0, 2_000), st.integers(0, 2_000))
def test_worse_is_a_fall_by_more_than_a_hundredth(wanted: int, before: int, after: int) -> None:
    before, after = min(before, wanted), min(after, wanted)
    found = Comparison(1, wanted, before, after)
    assert found.worse == (100 * (before - after) > wanted)


def segments(rows: Sequence[tuple[int, int]]) -> list[SegmentView]:
    """Sealed segments with so many rows, of which so many are dead."""
    out: list[SegmentView] = []
    for number, (count, dead) in enumerate(rows):
        points = [Point(f"s{number}-{row}", VECTORS[row, :2]) for row in range(count)]
        index = loaded(IndexSettings(2), points, watermark=number + 1)
        index.apply([], [f"s{number}-{row}" for row in range(dead)], number + 2, "dead")
        out += index.view.segments
    return out


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=5
    )
)
def test_compaction_leaves_no_tombstone_and_full_makes_few_segments(
    rows: list[tuple[int, int]],
) -> None:
    sealed = segments(rows)
    bounds = MaintenanceSettings(segment_rows_max=12)
    works = choose_compaction(sealed, 9, bounds)
    assert [work.sources for work in works] == [(one,) for one in sealed if one.tombstones]
    everything = choose_compaction(sealed, 9, bounds, full=True)
    sources = [source for work in everything for source in work.sources]
    assert sorted(map(id, sources)) == sorted(map(id, sealed))
    assert all(work.rows <= 12 and work.reason is Reason.COMPACT for work in everything)
    half_empty = [work for work in everything if work.rows <= 6]
    assert len(half_empty) <= 1


def test_a_segment_that_was_worse_is_spared_until_more_of_it_is_dead() -> None:
    index = index_of(GOOD)
    index.apply([], [f"p{number:04d}" for number in range(400)], 2, "c2")
    work = index.merge_work()
    assert isinstance(work, Work) and work.reason is Reason.COMPACT
    index.spare(work)
    assert index.merge_work() is None
    index.apply([], [f"p{number:04d}" for number in range(400, 600)], 3, "c3")
    assert index.merge_work() is None
    index.apply([], ["p0600"], 4, "c4")
    assert index.merge_work() is not None
    assert maintain(index) == 1
