"""What users may rely on of approximate search: it finds what exact search finds, or nearly."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.index import CollectionIndex, GraphSettings, IndexSettings, Metric, Query, search
from engine.index.filters import Equals, Filter, Range
from engine.types import Point
from tests.engine.index.sealing import loaded

SIFT = Path(__file__).parents[2] / "data" / "sift5k"


def _read(name: str) -> NDArray[Any]:
    with gzip.open(SIFT / f"{name}.npy.gz") as file:
        array: NDArray[Any] = np.load(file)
    return array


@pytest.fixture(scope="module")
def base() -> NDArray[np.float32]:
    return _read("base").astype(np.float32)


@pytest.fixture(scope="module")
def queries() -> NDArray[np.float32]:
    return _read("query").astype(np.float32)[:150]


def _index(base: NDArray[np.float32], metric: Metric) -> CollectionIndex:
    graph = GraphSettings(exact_values=0)
    points = (
        Point(f"{row:05d}", vector, payload={"row": row, "tenth": row % 10})
        for row, vector in enumerate(base)
    )
    index = loaded(IndexSettings(base.shape[1], metric, graph=graph), points)
    assert [segment.graph is not None for segment in index.view.segments] == [True]
    return index


@pytest.fixture(scope="module")
def euclidean(base: NDArray[np.float32]) -> CollectionIndex:
    return _index(base, Metric.EUCLIDEAN)


def test_exact_search_gives_the_published_neighbors(
    base: NDArray[np.float32], queries: NDArray[np.float32], euclidean: CollectionIndex
) -> None:
    truth = _read("groundtruth_top100_l2")
    for number, query in enumerate(queries[:40]):
        hits = search(euclidean.view, Query(query, limit=100, exact=True)).hits
        distances = np.array([-hit.score for hit in hits])
        expected = np.linalg.norm(base[truth[number]] - query, axis=1)
        np.testing.assert_allclose(distances, expected, rtol=1e-6)
        assert [int(hit.point.id) for hit in hits] == truth[number].tolist()


def test_approximate_search_finds_98_percent_of_the_published_neighbors(
    queries: NDArray[np.float32], euclidean: CollectionIndex
) -> None:
    truth = _read("groundtruth_top100_l2")
    found = 0
    for number, query in enumerate(queries):
        results = search(euclidean.view, Query(query, limit=10))
        assert (results.explain.walked, results.explain.scanned) == (1, 0)
        found += len({int(hit.point.id) for hit in results.hits} & set(truth[number, :10].tolist()))
    assert found / (10 * len(queries)) >= 0.98


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT])
def test_approximate_search_agrees_with_exact_search(
    base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric
) -> None:
    view = _index(base, metric).view
    common = 0
    for query in queries:
        near = {hit.point.id: hit.score for hit in search(view, Query(query)).hits}
        best = {hit.point.id: hit.score for hit in search(view, Query(query, exact=True)).hits}
        assert all(near[id] == best[id] for id in near.keys() & best.keys())
        common += len(near.keys() & best.keys())
    assert common / (10 * len(queries)) >= 0.98


def test_a_collection_that_is_quickly_scanned_is_searched_exactly(
    base: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    index = loaded(
        IndexSettings(base.shape[1], Metric.EUCLIDEAN),
        (Point(f"{row:05d}", vector) for row, vector in enumerate(base)),
    )
    for query in queries[:40]:
        results = search(index.view, Query(query))
        assert results.hits == search(index.view, Query(query, exact=True)).hits
        assert (results.explain.walked, results.explain.scanned) == (0, 1)


@pytest.mark.parametrize(
    "filter",
    [
        Range("row", lt=2_250),
        Range("row", gte=3_600),
        Equals("tenth", 3),
        Range("row", lt=45),
        Equals("row", 7),
    ],
    ids=["50%", "20%", "10%", "1%", "one"],
)
def test_filtered_search_agrees_with_exact_search_at_every_selectivity(
    queries: NDArray[np.float32], euclidean: CollectionIndex, filter: Filter
) -> None:
    common = wanted = 0
    for query in queries[:60]:
        near = search(euclidean.view, Query(query, filter=filter))
        best = search(euclidean.view, Query(query, filter=filter, exact=True))
        assert len(near.hits) == len(best.hits) == min(10, near.explain.matches or 0)
        common += len({h.point.id for h in near.hits} & {h.point.id for h in best.hits})
        wanted += len(best.hits)
    assert common / wanted >= 0.98


def test_a_filter_opposed_to_the_query_still_finds_the_best(
    base: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    # The half of the points that is farthest from the query: none is near where the graph leads.
    query = queries[0]
    order = np.argsort(np.linalg.norm(base - query, axis=1))
    far = set(order[len(base) // 2 :].tolist())
    graph = GraphSettings(exact_values=0)
    index = loaded(
        IndexSettings(base.shape[1], Metric.EUCLIDEAN, graph=graph),
        (Point(str(i), v, payload={"far": i in far}) for i, v in enumerate(base)),
    )
    results = search(index.view, Query(query, filter=Equals("far", True)))
    expected = order[len(base) // 2 : len(base) // 2 + 10].tolist()
    assert [int(hit.point.id) for hit in results.hits] == expected
    # It is given up for a scan, or it has seen more than the near half.
    assert results.explain.scanned == 1 or results.explain.visited > len(base) / 4
