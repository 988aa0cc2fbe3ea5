"""Sparse vectors are found exactly, by inner product, wherever their rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragmesh_native import sparse_top

from engine.errors import InvalidField, InvalidVector
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.exact import Metric
from engine.index.filters import Equals
from engine.index.fusion import FusionMethod, fuse
from engine.index.maintenance import MaintenanceSettings
from engine.index.search import Mode, Query, search
from engine.index.segment import SegmentView
from engine.index.snapshot import living, read_snapshot, write_snapshot
from engine.index.sparse import ENTRIES_MAX, MAGNITUDE_MAX, SparseBuffer, prepare
from engine.index.stages import Staged, find
from engine.index.view import get, list_points, stats
from engine.types import Point, SparseVector
from tests.engine.index.sealing import maintain

DIMENSIONS = np.array([0, 1, 2, 5, 900, 65_536, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
SMALL = MaintenanceSettings(seal_rows=4, quiet_seal_rows=1, segments_max=1, merge_width=3)


def sparse(entries: Mapping[int, float]) -> SparseVector:
    """In the order given, which `prepare` mends."""
    return prepare(
        np.array(list(entries), np.uint32), np.array(list(entries.values()), np.float32), "sparse"
    )


def some_vector(random: np.random.Generator) -> SparseVector:
    """Values that are often the same, so that scores tie and cancel each other."""
    indices = random.choice(DIMENSIONS, random.integers(1, len(DIMENSIONS) + 1), replace=False)
    exact = random.choice(np.array([-2, -1, 1, 2], np.float32), len(indices))
    values = exact if random.random() < 0.7 else random.normal(size=len(indices))
    return prepare(indices, values, "sparse")


def said(vector: SparseVector | None) -> dict[int, float]:
    if vector is None:
        return {}
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


def best(
    points: Mapping[str, SparseVector | None], query: SparseVector, k: int
) -> list[tuple[str, float]]:
    """What NumPy says, over dense rows of float64."""
    wide = {}
    for id, one in points.items():
        if one is None or not np.isin(one.indices, query.indices).any():
            continue
        row, asked = np.zeros(len(DIMENSIONS)), np.zeros(len(DIMENSIONS))
        row[np.searchsorted(DIMENSIONS, one.indices)] = one.values
        asked[np.searchsorted(DIMENSIONS, query.indices)] = query.values
        # In order, as the index adds.
        wide[id] = float(np.float32(np.cumsum(row * asked)[-1]))
    return sorted(wide.items(), key=lambda item: (-item[1], item[0]))[:k]


def found(index: CollectionIndex, query: SparseVector, k: int) -> list[tuple[str, float]]:
    hits = search(index.view, Query(sparse=query, limit=k)).hits
    assert all(hit.score == hit.sparse_score for hit in hits)
    assert all(hit.dense_score is None and hit.lexical_score is None for hit in hits)
    return [(hit.point.id, hit.score) for hit in hits]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000), st.integers(1, 6))
def test_the_best_inner_products_are_found_through_seals_merges_and_deletes(
    seed: int, batches: int
) -> None:
    random = np.random.default_rng(seed)
    index = CollectionIndex(IndexSettings(3, maintenance=SMALL))
    truth: dict[str, SparseVector | None] = {}
    for number in range(1, batches + 1):
        ids = [f"p{n}" for n in random.permutation(16)[: random.integers(1, 9)]]
        points = [
            Point(
                id,
                random.normal(size=3).astype(np.float32) if random.random() < 0.5 else None,
                sparse_vector=some_vector(random) if random.random() < 0.7 else None,
            )
            for id in ids
        ]
        gone = [f"p{n}" for n in random.permutation(16)[:3] if f"p{n}" not in ids]
        index.apply(points, gone, number, f"c{number}")
        truth = {id: one for id, one in truth.items() if id not in gone}
        truth |= {point.id: point.sparse_vector for point in points}
        if random.random() < 0.7:
            maintain(index, quiet=random.random() < 0.5)
        for _ in range(3):
            query, k = some_vector(random), int(random.integers(1, 8))
            assert found(index, query, k) == best(truth, query, k)
        kept = get(index.view, truth, with_vectors=True)
        assert {point.id: said(point.sparse_vector) for point in kept} == {
            id: said(one) for id, one in truth.items()
        }


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 100_000))
def test_a_pair_has_one_score_wherever_its_row_lies(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = [Point(f"p{n}", None, sparse_vector=some_vector(random)) for n in range(20)]
    query = some_vector(random)
    answers = []
    for bounds, step in ((MaintenanceSettings(), 20), (MaintenanceSettings(), 3), (SMALL, 7)):
        index = CollectionIndex(IndexSettings(3, maintenance=bounds))
        for number, start in enumerate(range(0, 20, step), 1):
            index.apply(points[start : start + step], [], number, f"c{number}")
            if bounds is SMALL:
                maintain(index, quiet=True)
        answers.append(found(index, query, 20))
    assert answers[0] == answers[1] == answers[2]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 100_000))
def test_filters_thresholds_and_exclusions_hold(seed: int) -> None:
    random = np.random.default_rng(seed)
    index = CollectionIndex(IndexSettings(3, maintenance=SMALL))
    truth = {f"p{n}": some_vector(random) for n in range(15)}
    color = {id: str(random.choice(["red", "blue"])) for id in truth}
    points = [Point(id, None, "", {"color": color[id]}, sparse_vector=truth[id]) for id in truth]
    index.apply(points[:9], [], 1, "c1")
    maintain(index, quiet=True)
    index.apply(points[9:], ["p3"], 2, "c2")
    del truth["p3"]
    query = some_vector(random)
    red = best({id: one for id, one in truth.items() if color[id] == "red"}, query, 15)
    asked = Query(sparse=query, limit=15, filter=Equals("color", "red"))
    hits = search(index.view, asked).hits
    assert [(hit.point.id, hit.score) for hit in hits] == red
    hits = search(index.view, replace(asked, score_threshold=0.5)).hits
    assert [(hit.point.id, hit.score) for hit in hits] == [one for one in red if one[1] >= 0.5]
    excluded = Staged(Query(sparse=query, limit=4), exclude=frozenset(("p1", "p9")))
    left = {id: one for id, one in truth.items() if id not in ("p1", "p9")}
    staged = find(index.view, excluded, 0.0).hits
    assert [(hit.point.id, hit.score) for hit in staged][:4] == best(left, query, 4)


@pytest.mark.parametrize("method", list(FusionMethod))
def test_any_legs_are_fused_with_the_scores_of_each(method: FusionMethod) -> None:
    random = np.random.default_rng(5)
    index = CollectionIndex(IndexSettings(3, metric=Metric.DOT, maintenance=SMALL))
    words = ["ant", "bee", "cat", "dog"]
    points = [
        Point(
            f"p{n}",
            random.normal(size=3).astype(np.float32),
            " ".join(random.choice(words, 3)),
            sparse_vector=some_vector(random),
        )
        for n in range(30)
    ]
    index.apply(points[:20], [], 1, "c1")
    maintain(index, quiet=True)
    index.apply(points[20:], [], 2, "c2")
    brought = {
        "vector": random.normal(size=3).astype(np.float32),
        "text": "ant dog",
        "sparse": some_vector(random),
    }
    weights = {"vector": 0.5, "text": 2.0, "sparse": 1.5}
    for names in (("vector", "sparse"), ("text", "sparse"), ("vector", "text", "sparse")):
        legs = {
            name: [
                (hit.point.id, hit.score)
                for hit in search(
                    index.view,
                    Query(**{name: brought[name]}, limit=10),  # type: ignore[arg-type]
                ).hits
            ]
            for name in names
        }
        wanted = fuse([(legs[name], weights[name]) for name in names], method)
        query = Query(
            **{name: brought[name] for name in names},  # type: ignore[arg-type]
            limit=5,
            candidates=10,
            fusion=method,
            dense_weight=0.5,
            lexical_weight=2.0,
            sparse_weight=1.5,
        )
        results = search(index.view, query)
        assert results.explain.mode is Mode.HYBRID
        expected = sorted(wanted.items(), key=lambda item: (-item[1], item[0]))[:5]
        assert [hit.point.id for hit in results.hits] == [id for id, _ in expected]
        assert [hit.score for hit in results.hits] == pytest.approx([s for _, s in expected])
        for hit in results.hits:
            by_leg = {
                "vector": hit.dense_score,
                "text": hit.lexical_score,
                "sparse": hit.sparse_score,
            }
            for name, score in by_leg.items():
                assert score == dict(legs.get(name, ())).get(hit.point.id)


def test_rows_without_sparse_vectors_cost_nothing(tmp_path: Path) -> None:
    index = CollectionIndex(IndexSettings(3, maintenance=MaintenanceSettings(seal_rows=2)))
    rows = np.eye(3, dtype=np.float32)
    index.apply([Point("a", rows[0])], [], 1, "c1")
    assert index.view.segments[0].rows.sparse is None
    before = stats(index.view).heap_bytes
    index.apply([Point("b", rows[1])], [], 2, "c2")
    maintain(index)
    (segment,) = index.view.segments
    assert segment.sealed is not None
    assert not [name for name in segment.sealed.arrays if name.startswith("sparse.")]
    assert found(index, sparse({1: 1.0}), 5) == []
    index.apply([Point("c", None, sparse_vector=sparse({7: 1.0}))], [], 3, "c3")
    assert stats(index.view).heap_bytes > 0 < before
    assert found(index, sparse({7: 2.0, 9: 1.0}), 5) == [("c", 2.0)]
    # What has never had a vector of any kind is sealed beside them.
    written = write_snapshot(index.view, tmp_path / "own")
    ((late,),) = read_snapshot(written.path).late_rows()
    assert said(late.sparse_vector) == {7: 1.0}
    assert [point.sparse_vector for points, _ in living(segment) for point in points] == [None] * 2


def test_a_segment_keeps_them_through_snapshots_and_lists(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    index = CollectionIndex(IndexSettings(3, maintenance=SMALL))
    truth = {f"p{n}": some_vector(random) for n in range(9)}
    index.apply([Point(id, None, sparse_vector=truth[id]) for id in truth], ["x"], 1, "c1")
    maintain(index, quiet=True)
    (segment,) = index.view.segments
    assert segment.sealed is not None
    back = {
        point.id: said(point.sparse_vector) for points, _ in living(segment) for point in points
    }
    listed = list_points(index.view, with_vectors=True)
    assert back == {id: said(one) for id, one in truth.items()}
    assert {point.id: said(point.sparse_vector) for point in listed} == back
    assert all(point.sparse_vector is None for point in list_points(index.view))
    restored = CollectionIndex(IndexSettings(3))
    live = segment.live.copy()
    live[0] = False
    restored.restore([(segment.sealed, live)], 1, 1, "c1")
    gone = segment.rows.id(0)
    query = some_vector(random)
    left = {id: one for id, one in truth.items() if id != gone}
    assert found(restored, query, 9) == best(left, query, 9)
    assert isinstance(index.view.segments[0], SegmentView)


def test_a_buffer_is_sealed_before_its_sparse_vectors_fill_the_memory() -> None:
    bounds = MaintenanceSettings(seal_token_bytes=20 * 25)
    index = CollectionIndex(IndexSettings(3, maintenance=bounds))
    wide = sparse(dict.fromkeys(range(10), 1.0))
    for number in range(1, 4):
        assert index.seal_work() is None
        index.apply([Point(f"p{number}", None, sparse_vector=wide)], [], number, "c")
    assert index.seal_work() is not None


@given(st.integers(0, 100_000))
def test_a_vector_is_the_same_in_any_order_of_its_entries(seed: int) -> None:
    random = np.random.default_rng(seed)
    vector = some_vector(random)
    order = random.permutation(len(vector))
    again = prepare(vector.indices[order], vector.values[order], "sparse")
    assert said(again) == said(vector)
    assert again.indices.tolist() == sorted(again.indices.tolist())


@pytest.mark.parametrize(
    ("indices", "values", "said_of_it"),
    [
        ([], [], "has 0 entries; give 1 to 4,096"),
        (range(ENTRIES_MAX + 1), [1.0] * (ENTRIES_MAX + 1), "has 4097 entries"),
        ([1, 2], [1.0], "has 2 indices and 1 values"),
        ([3, 1, 3], [1.0, 2.0, 3.0], "has index 3 twice"),
        ([1, 2], [1.0, float("nan")], "has nan at index 2"),
        ([1, 2], [float("-inf"), 1.0], "has -inf at index 1"),
        ([1, 2], [0.0, 1.0], "has 0.0 at index 1"),
        ([1], [2 * MAGNITUDE_MAX], "finite numbers of at most 1e+15"),
    ],
)
def test_what_is_no_sparse_vector_is_refused(
    indices: list[int], values: list[float], said_of_it: str
) -> None:
    with pytest.raises(InvalidVector, match="sparse_vector has ") as caught:
        prepare(
            np.array(indices, np.uint32), np.array(values, np.float32), "points[3].sparse_vector"
        )
    assert said_of_it in caught.value.message
    assert caught.value.field == "points[3].sparse_vector"


def test_a_mode_without_what_it_needs_is_refused() -> None:
    index = CollectionIndex(IndexSettings(3))
    with pytest.raises(InvalidField, match="a sparse search needs a sparse_vector"):
        search(index.view, Query(text="x", mode=Mode.SPARSE))
    with pytest.raises(InvalidField, match="a hybrid search needs a vector"):
        search(index.view, Query(sparse=sparse({1: 1.0}), mode=Mode.HYBRID))


def test_the_greatest_and_least_values_have_finite_scores() -> None:
    index = CollectionIndex(IndexSettings(3))
    most = dict.fromkeys(range(ENTRIES_MAX), MAGNITUDE_MAX)
    least = dict.fromkeys(range(ENTRIES_MAX), -MAGNITUDE_MAX)
    tiny = {1: 1e-45}
    for id, entries in (("most", most), ("least", least), ("tiny", tiny)):
        index.apply([Point(id, None, sparse_vector=sparse(entries))], [], 1, "c")
    hits = dict(found(index, sparse(most), 3))
    assert np.isfinite(list(hits.values())).all()
    assert list(hits) == ["most", "tiny", "least"]


def test_rows_of_a_commit_that_failed_are_forgotten() -> None:
    buffer = SparseBuffer()
    for row, entries in zip(count(), ({1: 1.0}, {1: 2.0}, {1: 3.0}), strict=False):
        buffer.append(row, [sparse(entries)])
    buffer.append(1, [None, sparse({1: 5.0})])
    pairs = [
        pair
        for positions, values, _ in buffer.lists(sparse({1: 1.0}), 3)
        for pair in zip(positions.tolist(), values.tolist(), strict=True)
    ]
    assert sorted(pairs) == [(0, 1.0), (2, 5.0)]


LISTS = st.lists(
    st.dictionaries(st.integers(0, 20_000), st.sampled_from([-2.0, -1.0, 0.5, 1.0]), max_size=12),
    max_size=6,
)


@given(LISTS, st.integers(0, 12), st.integers(0, 100))
def test_products_are_summed_whatever_else_is_asked(
    lists: list[dict[int, float]], k: int, seed: int
) -> None:
    """Of rows that lie far apart too, which are summed in blocks."""
    random = np.random.default_rng(seed)
    allowed = random.random(20_001) < 0.8
    weights = random.choice(np.array([-1.0, 0.5, 2.0]), len(lists)).tolist()
    postings = [
        (np.array(sorted(one), np.uint32), np.array([one[i] for i in sorted(one)], np.float32), w)
        for one, w in zip(lists, weights, strict=True)
    ]
    for mask in (None, allowed):
        meant: dict[int, float] = {}
        for one, weight in zip(lists, weights, strict=True):
            for row, value in one.items():
                if mask is None or mask[row]:
                    meant[row] = meant.get(row, 0.0) + weight * value
        every, scores = sparse_top(postings, 20_001, mask, 100)
        assert dict(zip(every.tolist(), scores.tolist(), strict=True)) == meant
        best, values = sparse_top(postings, 20_001, mask, k)
        last = sorted(meant.values(), reverse=True)[: k or None][-1] if meant and k else np.inf
        assert sorted(best.tolist()) == sorted(row for row in meant if meant[row] >= last)
        assert values.tolist() == [meant[row] for row in best.tolist()]


@pytest.mark.parametrize(
    ("positions", "values", "allowed", "said_of_it"),
    [
        (np.arange(2), np.ones(2, np.float32), None, "positions has dtype int64"),
        (np.arange(2, dtype=np.uint32), np.ones(2), None, "values has dtype float64"),
        (np.arange(3, dtype=np.uint32), np.ones(2, np.float32), None, "differ in length"),
        (np.arange(2, dtype=np.uint32), np.ones(2, np.float32), np.ones(5, bool), "5 entries"),
    ],
)
def test_postings_that_do_not_fit_are_refused(
    positions: Any, values: Any, allowed: Any, said_of_it: str
) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        sparse_top([(positions, values, 1.0)], 4, allowed, 1)


def test_positions_beyond_the_rows_are_left_out_without_harm() -> None:
    positions = np.array([9, 2, 4_000_000_000, 1], np.uint32)
    found, scores = sparse_top([(positions, np.ones(4, np.float32), 1.0)], 4, None, 9)
    assert len(found) == len(scores) <= 2
