"""What users may rely on of scores: a pair has one, whatever finds it and on any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import ragmesh_native as native
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

METRICS: list[native.Metric] = ["ip", "cosine", "l2"]
KINDS = ["float32", "float16", "int8"]


def made(
    kind: str, rows: NDArray[np.float32]
) -> tuple[native.Vectors, NDArray[np.float64], NDArray[np.float64]]:
    """Rows of a kind, what they stand for, and how far that may be from what was given."""
    if kind == "float32":
        return native.Vectors(rows), rows.astype(np.float64), np.zeros(len(rows))
    largest = np.abs(rows).max(axis=1, initial=1e-6).astype(np.float64)
    if kind == "float16":
        half = rows.astype(np.float16)
        return native.Vectors(half), half.astype(np.float64), largest * 2.0**-11
    scales = (largest / 127).astype(np.float32)
    values = np.rint(rows / scales[:, None]).astype(np.int8)
    stands_for = values.astype(np.float64) * scales[:, None].astype(np.float64)
    return native.Vectors(values, scales), stands_for, scales.astype(np.float64) * 0.51


def expected(
    metric: native.Metric, rows: NDArray[np.float64], query: NDArray[np.float32]
) -> NDArray[np.float64]:
    wide = query.astype(np.float64)
    if metric == "l2":
        distance: NDArray[np.float64] = np.sqrt(np.sum(np.square(rows - wide), axis=1))
        return -distance
    product: NDArray[np.float64] = rows @ wide
    return product.clip(-1, 1) if metric == "cosine" else product


@pytest.fixture(params=["avx512", "avx2", "neon", "plain"])
def every_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions in turn; one that this machine lacks stands for its own best."""
    before = native.instructions()
    try:
        native.use_instructions(request.param)
    except ValueError:
        native.use_instructions(before)
    yield native.instructions()
    native.use_instructions(before)


@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    count=st.integers(0, 50),
    dimensions=st.integers(1, 130),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=150, deadline=None)
def test_scores_are_those_of_arithmetic(
    kind: str, metric: native.Metric, count: int, dimensions: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    given_rows = random.normal(size=(count, dimensions)).astype(np.float32)
    query = random.normal(size=dimensions).astype(np.float32)
    vectors, rows, error = made(kind, given_rows)
    scores = native.score_rows(vectors, query, metric)
    np.testing.assert_allclose(scores, expected(metric, rows, query), rtol=1e-5, atol=1e-4)
    # And how far a stored precision may lead from what was given.
    bound = np.linalg.norm(query) * error * np.sqrt(dimensions)
    if metric == "l2":
        bound = error * np.sqrt(dimensions)
    meant = expected(metric, given_rows.astype(np.float64), query)
    assert (np.abs(scores - meant) <= bound + 1e-4).all()


def bits(
    vectors: native.Vectors, query: NDArray[np.float32], metric: native.Metric
) -> dict[int, bytes]:
    """The score of each position by every function; they must agree."""
    count = len(vectors)
    everything = np.arange(count)
    found = {
        "score_rows": (everything, native.score_rows(vectors, query, metric)),
        "of some": (
            everything[::-1],
            native.score_rows(vectors, query, metric, everything[::-1].copy()),
        ),
        "scan": native.scan(vectors, query, count, metric),
        "scan allowed": native.scan(vectors, query, count, metric, everything % 3 != 1),
        "scan positions": native.scan(vectors, query, count, metric, None, everything[1::2].copy()),
    }
    graph = native.build_graph(vectors, everything, 4, 20, 0, metric)
    walked = native.search_graph(graph, vectors, query, count, 0, metric, precise=vectors)
    found["graph"] = walked[:2]
    out: dict[int, bytes] = {}
    for positions, scores in found.values():
        assert len(positions) == len(scores)
        for position, score in zip(positions.tolist(), scores, strict=True):
            assert out.setdefault(position, score.tobytes()) == score.tobytes()
    assert len(found["graph"][0]) == count
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimensions", [1, 31, 64, 100])
def test_a_pair_has_one_score_by_every_way(
    kind: str, metric: native.Metric, dimensions: int
) -> None:
    random = np.random.default_rng(dimensions)
    rows = random.normal(size=(80, dimensions)).astype(np.float32)
    rows[40:] = rows[:40]
    query = random.normal(size=dimensions).astype(np.float32)
    vectors, _, _ = made(kind, rows)
    found = bits(vectors, query, metric)
    assert len(found) == 80
    assert all(found[i] == found[i + 40] for i in range(40))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_machine_that_fuses_gives_the_same_bits(
    every_set: str, kind: str, metric: native.Metric
) -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(60, 77)).astype(np.float32)
    query = random.normal(size=77).astype(np.float32)
    vectors, meant, _ = made(kind, rows)
    scores = native.score_rows(vectors, query, metric)
    np.testing.assert_allclose(scores, expected(metric, meant, query), rtol=1e-5, atol=1e-4)
    if every_set != "plain":
        np.testing.assert_array_equal(scores, lanes(metric, vectors, query))


def lanes(
    metric: native.Metric, vectors: native.Vectors, query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The same sums in the same order by numpy. A product of two float32 is exact in float64, and
    so is nearly every sum of it with a third: what is rounded once to float32 is fused."""
    values = np.asarray(vectors.values, np.float32)
    scales = np.ones(len(values), np.float32) if vectors.scales is None else vectors.scales
    width = -(-values.shape[1] // 32) * 32
    rows = np.zeros((len(values), width), np.float32)
    rows[:, : values.shape[1]] = values
    asked = np.zeros(width, np.float32)
    asked[: len(query)] = query
    left, right = np.broadcast_to(asked, rows.shape), rows
    if metric == "l2":
        difference = asked - rows * scales[:, None]
        left, right = difference, difference
    sums = np.zeros((len(rows), 32), np.float32)
    for at in range(0, width, 32):
        product = left[:, at : at + 32].astype(np.float64) * right[:, at : at + 32]
        sums = (sums.astype(np.float64) + product).astype(np.float32)
    for half in (16, 8, 4, 2, 1):
        sums = sums[:, :half] + sums[:, half : 2 * half]
    out = sums[:, 0]
    if metric == "l2":
        return -np.sqrt(out)
    out = out * scales
    return np.clip(out, -1, 1) if metric == "cosine" else out


@given(
    scores=st.lists(st.integers(-3, 3), max_size=3_000),
    k=st.integers(0, 40),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_a_scan_gives_the_best_and_all_that_tie_with_the_last(
    scores: list[int], k: int, seed: int
) -> None:
    rows = np.array(scores, np.float32).reshape(-1, 1)
    query = np.ones(1, np.float32)
    allowed = np.random.default_rng(seed).random(len(rows)) < 0.7
    for mask, positions in (
        (None, None),
        (allowed, None),
        (None, np.flatnonzero(allowed)),
        (None, np.flatnonzero(allowed).astype(np.uint32)),
    ):
        eligible = (
            np.arange(len(rows)) if mask is None and positions is None else allowed.nonzero()[0]
        )
        found, values = native.scan(native.Vectors(rows), query, k, "ip", mask, positions)
        order = sorted((scores[i] for i in eligible), reverse=True)
        last = order[min(k, len(order)) - 1] if k and order else 4
        assert sorted(found.tolist()) == [i for i in eligible.tolist() if scores[i] >= last]
        assert values.tolist() == [scores[i] for i in found.tolist()]


@given(
    words=st.lists(
        st.dictionaries(st.integers(0, 30), st.integers(1, 5), min_size=1), min_size=1, max_size=4
    ),
    allowed=st.lists(st.booleans(), min_size=31, max_size=31),
    k=st.integers(0, 8),
)
@settings(max_examples=100, deadline=None)
def test_words_score_as_the_formula_says_whatever_else_is_asked(
    words: list[dict[int, int]], allowed: list[bool], k: int
) -> None:
    lengths = np.arange(1, 32, dtype=np.uint32)
    lists = [
        (np.array(sorted(w), np.uint32), np.array([w[i] for i in sorted(w)], np.uint16), 0.5 + at)
        for at, w in enumerate(words)
    ]
    mask = np.array(allowed)
    meant: dict[int, float] = {}
    for positions, frequencies, weight in lists:
        for position, tf in zip(positions.tolist(), frequencies.tolist(), strict=True):
            if allowed[position]:
                norm = 1.2 * (1 - 0.75 + 0.75 * int(lengths[position]) / 16)
                meant[position] = meant.get(position, 0) + weight * tf * 2.2 / (tf + norm)
    every, scores = native.bm25_top(lists, lengths, 16.0, 1.2, 0.75, mask, 100)
    assert sorted(every.tolist()) == sorted(meant)
    np.testing.assert_allclose(scores, [meant[i] for i in every.tolist()], rtol=1e-6)
    score = dict(zip(every.tolist(), scores.tolist(), strict=True))
    best, values = native.bm25_top(lists, lengths, 16.0, 1.2, 0.75, mask, k)
    last = sorted(score.values(), reverse=True)[: k or None][-1] if score and k else np.inf
    assert sorted(best.tolist()) == sorted(i for i in score if score[i] >= last)
    assert values.tolist() == [score[i] for i in best.tolist()]
    for positions, _, _ in lists:
        assert native.count_live(positions, mask) == sum(allowed[i] for i in positions.tolist())


@given(
    metric=st.sampled_from(METRICS),
    count=st.integers(1, 60),
    dimensions=st.one_of(st.integers(1, 130), st.sampled_from([1_031, 4_096])),
    size=st.sampled_from([1e-10, 1e-3, 1.0, 1e6]),
    even=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=100, deadline=None)
def test_a_walk_by_codes_scores_as_near_as_codes_can_tell(
    metric: native.Metric, count: int, dimensions: int, size: float, even: bool, seed: int
) -> None:
    """`even`: every value as large as can be, where a sum of integers is largest."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, dimensions))
    query = random.normal(size=dimensions)
    if even:
        rows, query = np.sign(rows), np.sign(query)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        query /= np.linalg.norm(query)
        size = 1.0
    given_rows, asked = (rows * size).astype(np.float32), (query * size).astype(np.float32)
    codes, scales = native.encode_rows(native.Vectors(given_rows))
    coarse = native.Vectors(codes, scales)
    graph = native.build_graph(coarse, np.arange(count), 16, 100, 0, metric)
    found, scores, _, _ = native.search_graph(graph, coarse, asked, count, count, metric)
    assert sorted(found.tolist()) == list(range(count))
    stands_for = codes.astype(np.float64) * scales.astype(np.float64)[:, None]
    meant = expected(metric, stands_for, asked)[found]
    step = np.abs(asked).max() / min(16_383, 2**24 / (dimensions + 1) - 1)
    error = 0.0 if metric == "l2" else 0.51 * step * np.abs(stands_for).sum(axis=1)[found]
    lengths = [float(np.linalg.norm(asked)), float(np.linalg.norm(stands_for, axis=1).max())]
    rounding = 1e-5 * (sum(lengths) if metric == "l2" else lengths[0] * lengths[1])
    assert (np.abs(scores - meant) <= error + rounding).all()
    # And anew by the rows themselves.
    again = native.search_graph(
        graph, coarse, asked, count, count, metric, precise=native.Vectors(given_rows)
    )
    exact = native.score_rows(native.Vectors(given_rows), asked, metric, again[0])
    assert again[1].tolist() == exact.tolist() == sorted(exact.tolist(), reverse=True)


@given(
    rows=st.integers(0, 40),
    dimensions=st.integers(1, 80),
    half=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_codes_are_what_the_formula_says(rows: int, dimensions: int, half: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    wide = random.normal(size=(rows, dimensions)).astype(np.float16 if half else np.float32)
    wide[: rows // 5] = 0
    codes, scales = native.encode_rows(native.Vectors(wide))
    floats = wide.astype(np.float32)
    expected_scales = np.abs(floats).max(axis=1, initial=0.0) / np.float32(127)
    divisors = np.where(expected_scales > 0, expected_scales, np.float32(1))
    assert scales.tolist() == expected_scales.tolist()
    assert codes.tolist() == np.rint(floats / divisors[:, None]).astype(np.int8).tolist()


def test_values_that_are_not_finite_crash_nothing() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 8)).astype(np.float32)
    rows[::3] = [np.nan, np.inf, -np.inf, 3e38, 0, 0, 0, 0]
    query = np.full(8, 3e38, np.float32)
    vectors = native.Vectors(rows)
    for metric in METRICS:
        graph = native.build_graph(vectors, np.arange(400), 4, 20, 0, metric)
        native.check_graph(graph)
        native.search_graph(graph, vectors, query, 10, 50, metric)
        coarse = native.Vectors(*native.encode_rows(vectors))
        assert len(coarse) == 400
        native.scan(coarse, query, 3, metric)
        native.check_graph(native.build_graph(coarse, np.arange(400), 4, 20, 0, metric))
        native.search_graph(graph, coarse, query, 10, 50, metric, precise=vectors)


ROWS = np.zeros((4, 8), np.float32)
QUERY = np.zeros(8, np.float32)
VECTORS = native.Vectors(ROWS)
CODES = native.Vectors(*native.encode_rows(VECTORS))
NODES = np.arange(4)
LENGTHS = np.ones(4, np.uint32)
ONCE = np.ones(2, np.uint16)
ALL = np.ones(4, np.bool_)
GRAPH = native.build_graph(VECTORS, NODES, 4, 10, 0, "ip")


def words(
    lengths: NDArray[Any] = LENGTHS,
    frequencies: NDArray[np.uint16] = ONCE,
    weight: float = 1.0,
    mean_length: float = 1.0,
    allowed: NDArray[np.bool_] = ALL,
) -> object:
    """A search for one word in four rows."""
    lists = [(np.arange(2, dtype=np.uint32), frequencies, weight)]
    return native.bm25_top(lists, lengths, mean_length, 1.2, 0.75, allowed, 1)


def opened(level0: NDArray[Any] = GRAPH.level0, entry: int = 0, max_level: int = 0) -> object:
    """GRAPH from its arrays, or from others."""
    return native.GraphArrays(
        level0, GRAPH.levels, GRAPH.upper, GRAPH.upper_start, entry, max_level
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: native.Vectors(ROWS.astype(np.float64)), "dtype float64, expected float32"),
        (lambda: native.Vectors(ROWS.astype(">f4")), "vectors have dtype >f4"),
        (lambda: native.Vectors(ROWS[:, ::2]), "not contiguous"),
        (
            lambda: native.Vectors(
                np.frombuffer(bytes(33), np.uint8)[1:].view(np.float32).reshape(2, 4)
            ),
            "not aligned",
        ),
        (lambda: native.Vectors(QUERY), "shape .8., expected 2 axes"),
        (lambda: native.Vectors(np.zeros((3, 0), np.float32)), "0 dimensions"),
        (lambda: native.Vectors(ROWS.astype(np.int8)), "need scales"),
        (lambda: native.Vectors(ROWS, QUERY[:4]), "need scales"),
        (lambda: native.Vectors(ROWS.astype(np.int8), QUERY), "8 scales for 4 rows"),
        (lambda: native.scan(VECTORS, QUERY[:7].copy(), 1, "ip"), "7 dimensions"),
        (lambda: native.scan(VECTORS, QUERY.astype(np.float64), 1, "ip"), "query has dtype"),
        (lambda: native.scan(VECTORS, QUERY, 1, "dot"), "metric is 'dot'"),  # type: ignore[arg-type]
        (lambda: native.scan(VECTORS, QUERY, 1, "ip", np.ones(3, bool)), "3 entries for 4 rows"),
        (lambda: native.scan(VECTORS, QUERY, 1, "ip", np.ones(4)), "expected bool or uint8"),  # type: ignore[arg-type]
        (lambda: native.scan(VECTORS, QUERY, 1, "ip", None, np.array([4])), "outside 0..3"),
        (lambda: native.scan(VECTORS, QUERY, 1, "ip", None, np.array([-1])), "outside 0..3"),
        (lambda: native.scan(VECTORS, QUERY, 1, "ip", np.ones(4, bool), NODES), "not both"),
        (lambda: native.score_rows(VECTORS, QUERY, "ip", np.array([9])), "outside 0..3"),
        (lambda: native.build_graph(VECTORS, NODES, 1, 10, 0, "ip"), "m is 1, expected 2"),
        (lambda: native.build_graph(VECTORS, NODES, 4, 0, 0, "ip"), "ef_construction is 0"),
        (lambda: native.build_graph(VECTORS, np.array([1, 1]), 4, 9, 0, "ip"), "must ascend"),
        (lambda: native.build_graph(VECTORS, NODES, 4, 9, 0, "ip", GRAPH), "from 4 on"),
        (lambda: native.build_graph(VECTORS, NODES[:0], 5, 9, 0, "ip", GRAPH), "base has m 4"),
        (lambda: native.search_graph(GRAPH, native.Vectors(ROWS[:3]), QUERY, 1, 1, "ip"), "4 rows"),
        (lambda: native.encode_rows(CODES), "codes already"),
        (
            lambda: native.search_graph(
                GRAPH, CODES, QUERY, 1, 1, "ip", precise=native.Vectors(ROWS[:3])
            ),
            "not the shape",
        ),
        (lambda: words(lengths=QUERY), "lengths has dtype float32"),
        (lambda: words(frequencies=np.ones(3, np.uint16)), "of a word differ in length"),
        (lambda: words(weight=0.0), "must be above 0"),
        (lambda: words(mean_length=0.0), "mean_length must be above 0"),
        (lambda: words(allowed=np.ones(5, bool)), "5 entries for 4 rows"),
        (lambda: opened(entry=4), "entry is 4"),
        (lambda: opened(max_level=32), "max_level is 32"),
        (lambda: opened(GRAPH.level0[:3]), "as many"),
        (lambda: opened(ROWS), "level0 has dtype"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        call()
