"""What users may rely on of the graph: it finds what there is, and no damage makes it crash."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import hnswlib
import numpy as np
import pytest
import ragmesh_native as native
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import Cancelled, DataLoss
from engine.index.exact import Metric
from engine.index.graph import Beam, Graph, GraphSettings, Walk
from engine.types import Matrix

SIFT = Path(__file__).parents[2] / "data" / "sift5k"
METRICS = list(Metric)


def sift(name: str) -> Matrix:
    """Rows of the SIFT vectors beside the tests, as they are."""
    with gzip.open(SIFT / f"{name}.npy.gz") as file:
        return np.ascontiguousarray(np.load(file), np.float32)


def clustered(count: int, queries: int, seed: int = 0) -> tuple[Matrix, Matrix]:
    """Rows around 30 centers and queries drawn alike, normalized, 48 dimensions."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(30, 48))
    rows = centers[random.integers(0, 30, count + queries)]
    rows = rows + 0.7 * random.normal(size=rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows[:count], rows[count:]


def built(metric: Metric, rows: Matrix, **changed: int) -> Graph:
    return Graph.build(metric, rows, np.arange(len(rows)), GraphSettings(**changed))


def exact(metric: Metric, rows: Matrix, query: NDArray[np.float32], k: int) -> list[int]:
    """The k best by an exact scan, ties by position."""
    scores = native.score_rows(native.Vectors(rows), query, names(metric))
    order: list[int] = np.lexsort((np.arange(len(rows)), -scores))[:k].tolist()
    return order


def names(metric: Metric) -> native.Metric:
    if metric is Metric.EUCLIDEAN:
        return "l2"
    return "ip" if metric is Metric.DOT else "cosine"


def hnswlib_recall(
    metric: Metric, rows: Matrix, queries: Matrix, best: list[list[int]], ef: int
) -> float:
    index = hnswlib.Index("l2" if metric is Metric.EUCLIDEAN else "ip", rows.shape[1])
    index.init_index(max_elements=len(rows), M=8, ef_construction=60, random_seed=100)
    index.add_items(rows, num_threads=1)
    index.set_ef(ef)
    labels, _ = index.knn_query(queries, k=10, num_threads=1)
    return shared(labels.tolist(), best)


def shared(found: list[list[int]], best: list[list[int]]) -> float:
    """The share of the best that was found."""
    return float(np.mean([len(set(f) & set(b)) / len(b) for f, b in zip(found, best, strict=True)]))


@pytest.fixture(scope="module")
def real() -> tuple[Matrix, Matrix]:
    """SIFT, normalized, so that every metric can be asked."""
    rows, queries = sift("base"), sift("query")[:150]
    return (
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        queries / np.linalg.norm(queries, axis=1, keepdims=True),
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", ["real", "clustered"])
def test_the_graph_finds_as_much_as_hnswlib_with_equal_settings(
    metric: Metric, data: str, real: tuple[Matrix, Matrix]
) -> None:
    rows, queries = real if data == "real" else clustered(4_000, 150)
    best = [exact(metric, rows, query, 10) for query in queries]
    graph = built(metric, rows, m=8, ef_construction=60)
    for ef in (10, 40):
        found = [graph.search(rows, query, Beam(10, ef)).positions.tolist() for query in queries]
        theirs = hnswlib_recall(metric, rows, queries, best, ef)
        assert shared(found, best) >= theirs - 0.005


def test_equal_rows_give_equal_graphs() -> None:
    rows, _ = clustered(1_500, 1)
    one, two = built(Metric.COSINE, rows).arrays(), built(Metric.COSINE, rows.copy()).arrays()
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_graph_comes_back_from_a_read_only_map(tmp_path: Path) -> None:
    rows, queries = clustered(1_000, 20)
    graph = built(Metric.EUCLIDEAN, rows)
    arrays = {}
    for name, array in graph.arrays().items():
        np.save(tmp_path / f"{name}.npy", array)
        arrays[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    again = Graph.of(arrays, Metric.EUCLIDEAN, graph.settings)
    again.check()
    assert again.links.level0.base is not None
    assert again.nbytes == graph.nbytes
    for query in queries:
        assert same(
            graph.search(rows, query, Beam(10, 64)), again.search(rows, query, Beam(10, 64))
        )


def same(one: Walk, two: Walk) -> bool:
    """Whether two searches found the same, bit for bit."""
    return (
        one.positions.tolist() == two.positions.tolist()
        and one.scores.tobytes() == two.scores.tobytes()
    )


def test_a_graph_goes_on_from_another() -> None:
    rows, queries = clustered(3_000, 100)
    first = Graph.build(Metric.COSINE, rows[:2_000], np.arange(2_000), GraphSettings())
    whole = Graph.build(Metric.COSINE, rows, np.arange(2_000, 3_000), GraphSettings(), base=first)
    whole.check()
    best = [exact(Metric.COSINE, rows, query, 10) for query in queries]
    found = [whole.search(rows, query, Beam(10, 64)).positions.tolist() for query in queries]
    assert shared(found, best) >= 0.98
    assert first.links.level0.shape == (2_000, 33)


@given(
    count=st.integers(0, 40),
    distinct=st.integers(1, 12),
    m=st.integers(2, 5),
    metric=st.sampled_from(METRICS),
    left_out=st.sets(st.integers(0, 39)),
    base=st.integers(0, 40),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=200, deadline=None)
def test_every_node_is_reached_however_many_are_equal(
    count: int, distinct: int, m: int, metric: Metric, left_out: set[int], base: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    kinds = random.normal(size=(distinct, 5)).astype(np.float32)
    rows = kinds[random.integers(0, distinct, count)]
    members = np.array([i for i in range(count) if i not in left_out], np.uint32)
    base = min(base, count)
    chosen = GraphSettings(m=m, ef_construction=4)
    graph = Graph.build(metric, rows[:base], members[members < base], chosen)
    graph = Graph.build(metric, rows, members[members >= base], chosen, base=graph)
    graph.check()
    counts, links = graph.links.level0[:, 0], graph.links.level0[:, 1:]
    linked_to = {int(to) for i in members for to in links[i, : counts[i]]}
    twins = set() if graph.links.twins is None else set(graph.links.twins.tolist()) - {0}
    assert len(twins) == len(members) - len({rows[i].tobytes() for i in members})
    assert linked_to | twins >= set(members.tolist()) - {graph.links.entry}
    assert not linked_to & twins
    query = random.normal(size=5).astype(np.float32)
    found = graph.search(rows, query, Beam(100, 0))
    assert found.complete
    assert sorted(found.positions.tolist()) == members.tolist()
    order = [i for i in exact(metric, rows, query, count) if i not in left_out]
    assert found.positions.tolist() == order


def test_a_walk_sees_past_rows_that_are_the_same() -> None:
    rows, queries = clustered(3_000, 150)
    middle = rows.mean(axis=0)
    copies = np.tile(middle / np.linalg.norm(middle), (1_500, 1)).astype(np.float32)
    mixed = np.random.default_rng(1).permutation(np.concatenate([rows, copies]))
    graph = built(Metric.COSINE, mixed)
    best = [exact(Metric.COSINE, mixed, query, 10) for query in queries]
    found = [graph.search(mixed, query, Beam(10, 64)).positions.tolist() for query in queries]
    assert shared(found, best) >= 0.99
    # A filter may leave any of them: the node among them, some others, or none.
    first = int(np.flatnonzero((mixed == copies[0]).all(axis=1))[0])
    allowed = np.ones(len(mixed), np.bool_)
    allowed[first] = False
    some = graph.search(mixed, copies[0], Beam(20, 64, allowed)).positions
    assert (mixed[some] == copies[0]).all()
    assert first not in some


@given(share=st.floats(0, 1), k=st.integers(0, 60), seed=st.integers(0, 1_000))
@settings(max_examples=60, deadline=None)
def test_a_filtered_walk_gives_only_what_is_allowed_and_all_of_it(
    share: float, k: int, seed: int
) -> None:
    rows, queries = clustered(600, 1, seed % 7)
    graph = built(Metric.COSINE, rows, m=6, ef_construction=30)
    allowed = np.random.default_rng(seed).random(len(rows)) < share
    found = graph.search(rows, queries[0], Beam(k, 20, allowed))
    assert allowed[found.positions].all()
    assert len(found.positions) == min(k, np.count_nonzero(allowed))
    everything = graph.search(rows, queries[0], Beam(len(rows), 0, allowed))
    assert sorted(everything.positions.tolist()) == np.flatnonzero(allowed).tolist()


def test_a_walk_ends_at_its_bound_and_says_so() -> None:
    rows, queries = clustered(3_000, 1)
    graph = built(Metric.COSINE, rows)
    whole = graph.search(rows, queries[0], Beam(10, 100))
    part = graph.search(rows, queries[0], Beam(10, 100, None, 60))
    assert whole.complete
    assert not part.complete
    assert part.visited <= 60 + 2 * 16 < whole.visited


def test_a_build_can_be_stopped_from_another_thread() -> None:
    rows, _ = clustered(30_000, 1)
    stop = np.zeros(1, np.uint8)
    timer = threading.Timer(0.05, lambda: stop.__setitem__(0, 1))
    timer.start()
    with pytest.raises(Cancelled, match="30000 rows was stopped"):
        Graph.build(Metric.COSINE, rows, np.arange(30_000), GraphSettings(), stop=stop)


def test_others_compute_and_search_while_a_graph_is_built() -> None:
    rows, queries = clustered(6_000, 50)
    small = built(Metric.COSINE, rows[:2_000])
    alone = [small.search(rows[:2_000], query, Beam(10, 64)) for query in queries]
    building = threading.Thread(target=lambda: built(Metric.COSINE, rows))
    differing: list[int] = []
    rounds = [0] * 4

    def ask(thread: int) -> None:
        while building.is_alive():
            for query, expected in zip(queries, alone, strict=True):
                if not same(small.search(rows[:2_000], query, Beam(10, 64)), expected):
                    differing.append(thread)
            rounds[thread] += 1

    building.start()
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in [building, *threads]:
        thread.join()
    assert not differing
    assert max(rounds) > 0


def damaged(graph: Graph, random: np.random.Generator) -> Iterator[Graph]:
    """Copies of a graph, each with some of its numbers replaced."""
    for _ in range(60):
        arrays = {name: array.copy() for name, array in graph.arrays().items()}
        for array in list(arrays.values())[:4]:
            flat = array.reshape(-1)
            at = random.integers(0, len(flat), max(1, len(flat) // 20))
            flat[at] = random.integers(0, np.iinfo(flat.dtype).max, len(at), endpoint=True)
        yield Graph.of(arrays, graph.metric, graph.settings)


def test_damaged_links_are_noticed_and_walked_without_harm() -> None:
    rows, queries = clustered(500, 1)
    graph = built(Metric.COSINE, rows, m=4)
    for broken in damaged(graph, np.random.default_rng(0)):
        with pytest.raises(DataLoss, match="build the index again"):
            broken.check()
        for allowed in (None, np.arange(len(rows)) % 3 == 0):
            found = broken.search(rows, queries[0], Beam(10, 50, allowed))
            assert set(found.positions.tolist()) <= set(range(len(rows)))
            assert len(set(found.positions.tolist())) == len(found.positions)
        with pytest.raises(ValueError, match="the base is damaged"):
            Graph.build(
                Metric.COSINE,
                np.concatenate([rows, rows[:1]]),
                np.array([500]),
                GraphSettings(m=4),
                base=broken,
            )


def test_a_walk_that_cannot_do_ends_before_its_last_visit() -> None:
    """With half of the rows, once any and once those that are far from the query."""
    random = np.random.default_rng(3)
    rows = random.normal(size=(6_000, 24)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = native.Vectors(rows)
    graph = native.build_graph(vectors, np.arange(len(rows)), 8, 40, 0, "ip")
    query = rows[17]
    far = rows @ query < np.median(rows @ query)
    anywhere = random.random(len(rows)) < 0.5
    _, _, visited, complete = native.search_graph(
        graph, vectors, query, 10, 40, "ip", anywhere, 2_000
    )
    assert complete and visited < 2_000
    _, _, visited, complete = native.search_graph(graph, vectors, query, 10, 40, "ip", far, 2_000)
    assert not complete and visited < 500


@pytest.mark.parametrize("coded", [False, True])
def test_walks_done_together_find_what_each_finds_alone(coded: bool) -> None:
    rows, queries = clustered(3_000, 40)
    vectors = native.Vectors(rows)
    walked = native.Vectors(*native.encode_rows(vectors)) if coded else vectors
    graph = built(Metric.COSINE, rows)
    allowed = np.arange(len(rows)) % 3 != 0
    for beam in (
        Beam(10, 64),
        Beam(64, 64, allowed, 2_000, vectors if coded else None, settled=15),
    ):
        together = graph.search_together(walked, queries, beam)
        alone = [graph.search(walked, query, beam) for query in queries]
        assert all(same(one, two) for one, two in zip(together, alone, strict=True))
        assert [one.visited for one in together] == [one.visited for one in alone]
    assert graph.search_together(walked, queries[:0], Beam(10, 64)) == []
    with pytest.raises(ValueError, match="7 dimensions"):
        graph.search_together(walked, queries[:, :7].copy(), Beam(10, 64))
    with pytest.raises(ValueError, match="queries"):
        graph.search_together(walked, queries[0], Beam(10, 64))


def test_a_walk_whose_best_stand_still_ends_early_and_finds_nearly_as_much(
    real: tuple[Matrix, Matrix],
) -> None:
    rows, queries = real
    graph = built(Metric.COSINE, rows)
    best = [exact(Metric.COSINE, rows, query, 10) for query in queries]
    whole, settled = Beam(10, 128), Beam(10, 128, settled=15)
    of_whole = [graph.search(rows, query, whole) for query in queries]
    of_settled = [graph.search(rows, query, settled) for query in queries]
    assert sum(one.visited for one in of_settled) < 0.95 * sum(one.visited for one in of_whole)
    assert all(one.complete for one in of_settled)
    found, all_found = (
        shared([one.positions.tolist() for one in walks], best) for walks in (of_settled, of_whole)
    )
    assert found >= all_found - 0.002


def test_a_walk_goes_on_until_it_has_the_allowed_that_it_looks_for() -> None:
    """However long nothing near is found: those allowed are the farthest."""
    rows, _ = clustered(3_000, 1)
    graph = built(Metric.COSINE, rows)
    far = np.argsort(rows @ rows[0])[:500]
    allowed = np.zeros(len(rows), np.bool_)
    allowed[far] = True
    found = graph.search(rows, rows[0], Beam(20, 20, allowed, settled=30))
    assert len(found.positions) == 20
