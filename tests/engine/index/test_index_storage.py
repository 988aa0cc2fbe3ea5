"""What users may rely on of vectors kept as float16 or int8: what they cost and what is lost."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import DataLoss, InvalidVector
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.comparing import compare, compare_storage, sample_queries
from engine.index.exact import Metric, prepare
from engine.index.files import write_arrays
from engine.index.filters import Equals
from engine.index.graph import GraphSettings
from engine.index.maintenance import MaintenanceSettings, Reason
from engine.index.search import Query, search
from engine.index.storage import FLOAT16_MAX, Storage, check_range, coarse_rows, precise_rows
from engine.index.view import View, get, stats
from engine.types import Matrix, Point, Vector
from tests.engine.index.sealing import built, install, loaded, maintain

SIFT = Path(__file__).parents[2] / "data" / "sift5k"
WALKED = GraphSettings(exact_values=0)
STORAGES = list(Storage)


def sift(name: str) -> Matrix:
    with gzip.open(SIFT / f"{name}.npy.gz") as file:
        return np.ascontiguousarray(np.load(file), np.float32)


def clustered() -> tuple[Matrix, Matrix]:
    """3,000 rows around 40 centers and 60 queries like them; lengths differ a thousandfold."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(40, 64))[random.integers(0, 40, 3_060)]
    rows = rows + 0.5 * random.normal(size=rows.shape)
    rows *= 10 ** random.uniform(-1.5, 1.5, size=(len(rows), 1))
    return rows[:3_000].astype(np.float32), rows[3_000:].astype(np.float32)


def points_of(rows: Matrix) -> list[Point]:
    return [Point(f"p{n:05}", row, payload={"odd": n % 2}) for n, row in enumerate(rows)]


def index_of(
    rows: Matrix, storage: Storage, metric: Metric, graph: GraphSettings = WALKED
) -> CollectionIndex:
    chosen = IndexSettings(
        rows.shape[1],
        metric,
        storage=storage,
        graph=graph,
        maintenance=MaintenanceSettings(seal_rows=len(rows) + 1),
    )
    return loaded(chosen, points_of(rows))


def ids(view: View, query: Query) -> list[str]:
    return [hit.point.id for hit in search(view, query).hits]


def recall(view: View, oracle: View, queries: Matrix) -> float:
    """Of the ten nearest by whole vectors."""
    shares = []
    for query in queries:
        best = set(ids(oracle, Query(query, exact=True)))
        shares.append(len(best.intersection(ids(view, Query(query)))) / len(best))
    return float(np.mean(shares))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("data", ["sift", "clustered"])
@pytest.mark.usefixtures("walks")
def test_recall_stays_high_however_vectors_are_kept(metric: Metric, data: str) -> None:
    rows, queries = (sift("base"), sift("query")[:60]) if data == "sift" else clustered()
    whole = index_of(rows, Storage.FLOAT32, metric).view
    before = recall(whole, whole, queries)
    for storage in (Storage.FLOAT16, Storage.INT8):
        view = index_of(rows, storage, metric).view
        assert search(view, Query(queries[0])).explain.walked == 1
        after = recall(view, whole, queries)
        assert after >= before - 0.005, (storage, before, after)
    # Vectors of very different lengths are hard for any graph.
    assert before >= (0.99 if data == "sift" or metric is Metric.COSINE else 0.9)


def oracle_scores(
    metric: Metric, rows: Matrix, query: Vector, storage: Storage
) -> NDArray[np.float64]:
    """In float64, of values rounded by NumPy."""
    prepared = np.array([prepare(metric, rows.shape[1], row, "") for row in rows])
    if storage is not Storage.FLOAT32:
        prepared = prepared.astype(np.float16).astype(np.float32)
    asked = prepare(metric, rows.shape[1], query, "").astype(np.float64)
    wide = prepared.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return -np.asarray(np.linalg.norm(wide - asked, axis=1))
    return np.asarray(wide @ asked)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    dimensions=st.integers(1, 70),
    storage=st.sampled_from(STORAGES),
    metric=st.sampled_from(list(Metric)),
    scale=st.sampled_from([0.01, 1.0, 300.0]),
)
def test_a_row_scores_the_same_before_and_after_it_is_sealed(
    seed: int, count: int, dimensions: int, storage: Storage, metric: Metric, scale: float
) -> None:
    random = np.random.default_rng(seed)
    rows = (scale * random.normal(size=(count, dimensions))).astype(np.float32)
    query = (scale * random.normal(size=dimensions)).astype(np.float32)
    index = CollectionIndex(IndexSettings(dimensions, metric, storage=storage, graph=WALKED))
    index.apply(points_of(rows), [], 1, "a")
    asked = Query(query, limit=count, with_vectors=True)
    before = search(index.view, asked)
    index.freeze()
    maintain(index)
    walked, scanned = (
        search(index.view, dataclasses.replace(asked, exact=exact)) for exact in (False, True)
    )

    def found(hits: object) -> list[tuple[str, float, bytes]]:
        assert isinstance(hits, tuple)
        return [(h.point.id, h.score, np.asarray(h.point.vector).tobytes()) for h in hits]

    assert found(before.hits) == found(walked.hits) == found(scanned.hits)
    expected = oracle_scores(metric, rows, query, storage)
    by_id = {point.id: score for point, score in zip(points_of(rows), expected, strict=True)}
    for hit in before.hits:
        assert hit.score == pytest.approx(by_id[hit.point.id], rel=1e-4, abs=1e-4 * scale * scale)


@pytest.mark.parametrize("storage", [Storage.FLOAT16, Storage.INT8])
def test_a_filtered_search_is_exact_over_the_precise_rows(storage: Storage) -> None:
    rows, queries = clustered()
    view = index_of(rows, storage, Metric.COSINE, GraphSettings(exact_values=2**40)).view
    kept = precise_rows(
        storage, np.array([prepare(Metric.COSINE, rows.shape[1], row, "") for row in rows])
    ).astype(np.float64)
    for query in queries[:20]:
        hits = search(view, Query(query, filter=Equals("odd", 1))).hits
        asked = prepare(Metric.COSINE, rows.shape[1], query, "").astype(np.float64)
        scores = kept[1::2] @ asked
        assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-6)


def test_a_row_costs_five_two_or_three_bytes_a_value() -> None:
    rows, _ = clustered()
    dimensions = rows.shape[1]
    cost = {s: stats(index_of(rows, s, Metric.DOT).view).vector_bytes / len(rows) for s in STORAGES}
    assert cost == {
        Storage.FLOAT32: 5 * dimensions + 4,
        Storage.FLOAT16: 2 * dimensions,
        Storage.INT8: 3 * dimensions + 4,
    }


@pytest.mark.parametrize("storage", [Storage.FLOAT16, Storage.INT8])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_trial_tells_what_a_storage_would_cost_in_recall(storage: Storage, sealed: bool) -> None:
    rows, _ = clustered()
    rows = rows[:400]
    # Differences that float16 does not see: at 1,000 its values are half a unit apart.
    blurred = (1_000 + 0.05 * np.sign(rows) * np.abs(rows) / np.abs(rows).max()).astype(np.float32)
    for values, harmless in ((rows, True), (blurred, False)):
        index = CollectionIndex(IndexSettings(rows.shape[1], Metric.EUCLIDEAN, graph=WALKED))
        index.apply(points_of(values), [], 1, "a")
        if sealed:
            index.freeze()
            maintain(index)
        found = compare_storage(index.view, storage, 30)
        assert found.queries == 30 and found.wanted == 300
        assert found.worse is not harmless
        assert found.recall_before >= 0.97
        assert (found.recall_after >= 0.97) == harmless
        if sealed:
            after = CollectionIndex(dataclasses.replace(index.settings, storage=storage))
            after.restore([(s.sealed, s.live) for s in index.view.segments if s.sealed], 1, 1, "a")
            maintain(after)
            queries = sample_queries(index.view, 30)
            came = compare(index.view, after.view, queries)
            assert abs(came.recall_after - found.recall_after) <= 0.03, "what was foreseen came"


@pytest.mark.parametrize("storage", [Storage.FLOAT16, Storage.INT8])
def test_segments_are_built_anew_one_by_one_once_their_collection_stores_otherwise(
    storage: Storage,
) -> None:
    rows, _ = clustered()
    points = points_of(rows[:1_200])
    before = CollectionIndex(IndexSettings(rows.shape[1], graph=WALKED))
    for number, part in enumerate(np.array_split(np.arange(len(points)), 3), 1):
        before.apply([points[n] for n in part], [], number, str(number))
        before.freeze()
        work = before.seal_work()
        assert work is not None
        install(before, work)
    after = CollectionIndex(dataclasses.replace(before.settings, storage=storage))
    view = before.view
    after.restore([(s.sealed, s.live) for s in view.segments if s.sealed], 3, 3, "3")
    for _ in range(3):
        work = after.merge_work()
        assert work is not None and work.reason is Reason.COMPACT and len(work.sources) == 1
        assert work.sources[0].sealed is not None
        assert work.sources[0].sealed.storage is Storage.FLOAT32
        install(after, work)
    assert after.merge_work() is None
    assert {s.sealed.storage for s in after.view.segments if s.sealed} == {storage}
    wanted = [point.id for point in points]
    old, new = (get(v, wanted, with_vectors=True) for v in (view, after.view))
    for one, other in zip(old, new, strict=True):
        assert one.vector is not None and other.vector is not None
        assert np.array_equal(one.vector.astype(np.float16).astype(np.float32), other.vector)


def test_float16_and_int8_have_the_same_graph_and_precise_rows() -> None:
    rows, _ = clustered()
    half, byte = (
        index_of(rows[:800], storage, Metric.COSINE).view.segments[0].sealed
        for storage in (Storage.FLOAT16, Storage.INT8)
    )
    assert half is not None and byte is not None
    for name, array in half.arrays.items():
        assert np.array_equal(array, byte.arrays[name]), name
    assert set(byte.arrays) - set(half.arrays) == {"codes", "scales"}


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=6, max_size=6),
    st.sampled_from([0.0, 1.0, 1e-20, 70_000.0]),
)
def test_codes_are_within_half_a_step_of_their_row(values: list[float], first: float) -> None:
    rows = precise_rows(Storage.INT8, np.array([[first, *values]], np.float32))
    codes, scales = coarse_rows(rows)
    assert np.isfinite(rows).all() and np.isfinite(scales).all()
    error = np.abs(codes.astype(np.float64) * scales[:, None] - rows.astype(np.float64))
    assert (error <= 0.5001 * scales[:, None]).all()


def test_a_value_that_float16_cannot_hold_is_refused_where_it_comes_in() -> None:
    vector = np.array([1.0, -65_505.0], np.float32)
    check_range(Storage.FLOAT32, vector, "vector")
    for storage in (Storage.FLOAT16, Storage.INT8):
        check_range(storage, np.array([FLOAT16_MAX, 0.0], np.float32), "vector")
        with pytest.raises(InvalidVector, match=r"65505.*65504") as caught:
            check_range(storage, vector, "vector")
        assert caught.value.metadata["value_max"] == str(FLOAT16_MAX)


@pytest.mark.parametrize("damage", ["no scales", "scales too short", "codes too narrow"])
def test_a_segment_whose_parts_do_not_fit_is_refused(damage: str, tmp_path: Path) -> None:
    rows, _ = clustered()
    index = index_of(rows[:50], Storage.INT8, Metric.COSINE)
    sealed = index.view.segments[0].sealed
    assert sealed is not None
    arrays = dict(sealed.arrays)
    if damage == "no scales":
        del arrays["scales"]
    elif damage == "scales too short":
        arrays["scales"] = arrays["scales"][1:]
    else:
        arrays["codes"] = arrays["codes"][:, 1:]
    facts = {"format": 1, "metric": "cosine", "sealed_seq": 1}
    written = write_arrays(tmp_path / "damaged", arrays, facts)
    with pytest.raises(DataLoss, match="built again"):
        index.open(written.path, written.sha256)


@pytest.mark.parametrize("storage", STORAGES)
def test_equal_rows_give_equal_segments(storage: Storage) -> None:
    rows, _ = clustered()
    names = set()
    for _ in range(2):
        index = CollectionIndex(IndexSettings(rows.shape[1], storage=storage, graph=WALKED))
        index.apply(points_of(rows[:300]), [], 1, "a")
        index.freeze()
        work = index.seal_work()
        assert work is not None
        names.add(built(index, work).name)
    assert len(names) == 1
