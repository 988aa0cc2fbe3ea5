"""What the suites about search are made of: data, filters, recall, clients in turns."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import requests, sentences
from benchmarks.clients import SearchClient, ask_in_turns
from benchmarks.conditions import RELATIONS, Range, nearest_within, number, ranges
from benchmarks.data import Matrix, RetrievalSet, Text, clustered, nearest
from benchmarks.metrics import recall_by_score
from benchmarks.peers.environment import read
from benchmarks.peers.process import running
from benchmarks.pressure import Outcome
from benchmarks.suites.search.rate import Rate

SEARCHER = Path(__file__).with_name("echo_searcher.py")
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.01, 0.001)


def _embedder(calls: list[int]) -> sentences.Embed:
    def embed(texts: Sequence[str]) -> Matrix:
        calls.append(len(texts))
        lengths = np.array([[len(one), 1.0] for one in texts], np.float32)
        return np.asarray(lengths / np.linalg.norm(lengths, axis=1, keepdims=True), np.float32)

    return embed


def test_sentences_end_where_a_mark_is_followed_by_space() -> None:
    texts = [Text("1", "A title", "One. Two?  Three! 4.5 is no end")]
    assert sentences.split(texts) == ["A title One.", "Two?", "Three!", "4.5 is no end"]


def test_vectors_are_embedded_once_for_each_model_and_set_of_texts(tmp_path: Path) -> None:
    calls: list[int] = []
    texts = [f"{'x' * (n % 7)} {n}" for n in range(1_100)]

    def embed(fingerprint: str, of: Sequence[str]) -> Matrix:
        return sentences.embedded(
            of, _embedder(calls), fingerprint=fingerprint, say=lambda _: None, cache=tmp_path
        )

    first = embed("a", texts)
    assert np.array_equal(first, _embedder([])(texts)), "rows are in the order of the texts"
    assert sum(calls) == len(texts)
    assert np.array_equal(embed("a", texts), first)
    assert sum(calls) == len(texts)
    embed("b", texts)
    embed("a", [*texts[:-1], "another"])
    assert sum(calls) == 3 * len(texts)
    assert not [one for one in tmp_path.iterdir() if one.suffix != ".npy"]


def test_an_embedding_that_fails_leaves_no_vectors_behind(tmp_path: Path) -> None:
    def broken(texts: Sequence[str]) -> Matrix:
        raise OSError("no model")

    with pytest.raises(OSError, match="no model"):
        sentences.embedded(["a"], broken, fingerprint="", say=lambda _: None, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_sentences_held_apart_are_queries_and_not_points(tmp_path: Path) -> None:
    texts = [Text(str(n), "T", f"{'y' * n}. {'z' * (200 + n)}") for n in range(1, 30)]
    data = RetrievalSet(texts, {"1": "a claim"}, {})
    found = sentences.vector_set(
        data,
        _embedder([]),
        fingerprint="",
        say=lambda _: None,
        cache=tmp_path,
        held_apart=8,
    )
    assert len(found.points) == len(sentences.split(texts)) - 8
    assert len(found.queries) == 1 + 8
    points = {row.tobytes() for row in found.points}
    assert all(row.tobytes() not in points for row in found.queries[1:])
    assert np.array_equal(found.exact, nearest(found.points, found.queries, 10))


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("selectivity", SELECTIVITIES)
def test_a_filter_lets_its_share_through(relation: str, selectivity: float) -> None:
    data = clustered(4_000, 30, dimensions=16, clusters=40)
    numbered = number(data.points)
    asked = ranges(numbered, data.queries, relation, selectivity)  # type: ignore[arg-type]
    assert len({(one.field, one.gte, one.lt) for one in asked}) == len(asked)
    for one in asked:
        share = one.mask(numbered.numbers).mean()
        assert share == pytest.approx(selectivity, abs=1.5 / len(data.points))


def test_correlated_filters_keep_the_querys_side_and_opposed_ones_the_other() -> None:
    data = clustered(4_000, 60, dimensions=16, clusters=40)
    numbered = number(data.points)
    kept = {}
    for relation in RELATIONS:
        asked = ranges(numbered, data.queries, relation, 0.2)
        shares = [
            np.isin(best, np.flatnonzero(one.mask(numbered.numbers))).mean()
            for one, best in zip(asked, data.exact, strict=True)
        ]
        kept[relation] = float(np.mean(shares))
    assert kept["correlated"] > 0.6
    assert 0.05 < kept["independent"] < 0.4
    assert kept["opposed"] < 0.02


def test_pivots_lie_apart() -> None:
    data = clustered(2_000, 1, dimensions=32, clusters=4)
    pivots = number(data.points, pivots=4).pivots
    closeness = pivots @ pivots.T
    assert np.max(closeness - np.eye(len(closeness))) < 0.5


@pytest.mark.parametrize("selectivity", [0, -0.1, 1.1])
def test_a_selectivity_that_is_none_is_refused(selectivity: float) -> None:
    data = clustered(50, 2, dimensions=4, clusters=5)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        ranges(number(data.points), data.queries, "independent", selectivity)


@given(st.integers(0, 1_000), st.floats(0.001, 1.0))
def test_the_nearest_within_a_range_are_those_of_the_points_that_match(
    seed: int, selectivity: float
) -> None:
    data = clustered(300, 3, dimensions=8, clusters=6, seed=seed)
    numbered = number(data.points, seed=seed)
    asked = ranges(numbered, data.queries, "independent", selectivity, seed=seed)
    found = nearest_within(data.points, numbered.numbers, data.queries, asked, 10)
    for query, one, rows in zip(data.queries, asked, found, strict=True):
        matching = [n for n in range(300) if one.gte <= numbered.numbers["any"][n] < one.lt]
        expected = sorted(matching, key=lambda n: -float(data.points[n] @ query))[:10]
        scores = [data.points[list(of)] @ query if len(of) else [] for of in (rows, expected)]
        assert np.allclose(scores[0], scores[1], atol=1e-6)


def test_recall_counts_an_equal_point_and_nothing_twice() -> None:
    points = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    queries = np.array([[1, 0]], np.float32)

    def recall(found: Sequence[int], exact: Sequence[int]) -> float:
        return recall_by_score([found], [np.array(exact, np.int64)], points, queries)

    assert recall([1], [0]) == 1, "its twin is as good"
    assert recall([0, 0], [0, 1]) == 0.5
    assert recall([0, 2], [0, 1]) == 0.5
    assert recall([], [0, 1]) == 0
    assert recall([0, 1, 3], [0, 1]) == 1
    assert recall([], []) == 1
    assert recall([2], []) == 0, "nothing matches, and something was found"


def test_clients_get_the_same_queries_in_turns_and_answer_for_each(tmp_path: Path) -> None:
    data = clustered(200, 12, dimensions=8, clusters=10)
    numbered = number(data.points)
    asked: list[Range | None] = [*ranges(numbered, data.queries, "independent", 0.3)]
    with running(read(SEARCHER), k=10) as a, running(read(SEARCHER), k=3) as b:
        clients = {}
        for name, process in (("a", a), ("b", b)):
            (tmp_path / name).mkdir()
            clients[name] = SearchClient(process, tmp_path / name)
            clients[name].fill(data.points, numbered.numbers)
            clients[name].take(data.queries)
        done = ask_in_turns(clients, asked, rounds=3, calls=8, warm_up=2)
        whole = ask_in_turns(clients, [None] * 12, rounds=1, calls=12, warm_up=0)
    exact = nearest_within(
        data.points, numbered.numbers, data.queries, [one for one in asked if one], 10
    )
    order = [i % 12 for i in range(24)]
    for name, k in (("a", 10), ("b", 3)):
        series, found = done[name]
        assert series.rounds_ms.shape == (3, 8)
        assert found == [exact[i].tolist()[:k] for i in order]
    assert whole["a"][1] == data.exact.tolist()


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_requests_come_back_from_a_file_as_they_were(made: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests"
        assert requests.write(file, made) == len(made)
        assert [bytes(one) for one in requests.read(file)] == made


@given(st.integers(0, 10**7), st.integers(120, 2_000))
def test_a_payload_has_the_size_that_was_asked_for(number: int, size: int) -> None:
    assert len(json.dumps(requests.payload(number, size), separators=(",", ":"))) == size


def test_a_payload_too_small_to_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="120 bytes or more"):
        requests.payload(1, 50)


def test_a_rate_is_of_replies_in_time_and_of_computing() -> None:
    rate = Rate(ok=300, seconds=2.0, cpu_s=1.5, queries=64, outcome=Outcome())
    assert (rate.per_s, rate.per_cpu_s, rate.cores) == (9_600, 12_800, 0.75)
