"""What users may rely on of scores by words: they are BM25 of the live rows, and of nothing else.

The oracle is the formula in plain Python over a dictionary of texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.index import bm25
from engine.index.bm25 import K1, B, Mask, Part, live_totals, ranking
from engine.index.postings import WordBuffer, WordRows
from engine.index.word_table import WordTable, merged

LETTERS = "abcdefgh"
# Skewed, so that some words are in nearly every row and searches end early.
WORDS = st.sampled_from([letter for n, letter in enumerate(LETTERS) for _ in range(2 ** (7 - n))])
ROWS = st.lists(st.lists(WORDS, max_size=12), max_size=60)


@dataclass(frozen=True)
class World:
    """Rows by number: their words, who lives, and who passes the filter (None: no filter)."""

    rows: list[list[str]]
    live: list[bool]
    allowed: list[bool] | None

    def found(self, number: int) -> bool:
        return self.live[number] and (self.allowed is None or self.allowed[number])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    rows = draw(ROWS)
    flags = st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))
    mostly = st.lists(
        st.integers(0, 9).map(bool), min_size=len(rows), max_size=len(rows)
    ) | st.just([True] * len(rows))
    return World(rows, draw(mostly), draw(st.none() | flags))


QUERIES = st.dictionaries(st.sampled_from([*LETTERS, "absent"]), st.integers(1, 3), max_size=9)


def oracle(world: World, query: Mapping[str, int]) -> dict[int, float]:
    """Score by number of each row found."""
    texts = {n: Counter(words) for n, words in enumerate(world.rows) if world.live[n] and words}
    mean = sum(text.total() for text in texts.values()) / max(1, len(texts))
    scores: dict[int, float] = {}
    for word, times in query.items():
        holders = [n for n, text in texts.items() if word in text]
        idf = log(1 + (len(texts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for n in holders:
            often, length = texts[n][word], texts[n].total()
            held = often + K1 * (1 - B + B * length / mean)
            scores[n] = scores.get(n, 0.0) + times * idf * often * (K1 + 1) / held
    return {n: score for n, score in scores.items() if world.found(n)}


def buffered(rows: Sequence[Sequence[str]]) -> WordRows:
    buffer = WordBuffer()
    buffer.append(0, rows)
    return buffer


def sealed(rows: Sequence[Sequence[str]]) -> WordRows:
    return WordTable(WordTable.build(rows))


KINDS: list[Callable[[Sequence[Sequence[str]]], WordRows]] = [buffered, sealed]


def parts_of(world: World, cuts: Sequence[int]) -> list[Part]:
    """The world's rows, cut before these numbers, in parts of both kinds by turns."""
    edges = [0, *sorted(min(cut, len(world.rows)) for cut in cuts), len(world.rows)]
    parts = []
    for n, (low, high) in enumerate(pairwise(edges)):
        rows = KINDS[n % 2](world.rows[low:high])
        live = np.array(world.live[low:high], np.bool_)
        allowed = None if world.allowed is None else np.array(world.allowed[low:high], np.bool_)
        totals = live_totals(rows.lengths(high - low), live)
        parts.append(Part(rows, high - low, live, *totals, allowed))
    return parts


def answers(parts: Sequence[Part], query: Mapping[str, int], k: int) -> dict[int, float]:
    """Scores by number of row, as if the parts were one. Lists are read whole where they are short
    and end early where they are long, which must make no difference."""
    with patch.object(bm25, "_SMALL", 0):
        early = once(parts, query, k)
    with patch.object(bm25, "_SMALL", 10**9):
        assert once(parts, query, k) == early
    return early


def once(parts: Sequence[Part], query: Mapping[str, int], k: int) -> dict[int, float]:
    found: dict[int, float] = {}
    first = 0
    for part, hits in zip(parts, ranking(parts, query).top(k), strict=True):
        positions = hits.positions.tolist()
        assert positions == sorted(set(positions))
        found.update(zip((first + n for n in positions), hits.scores.tolist(), strict=True))
        first += part.count
    return found


@settings(max_examples=400, deadline=None)
@given(worlds(), QUERIES, st.integers(1, 70), st.lists(st.integers(0, 60), max_size=4))
def test_the_best_k_are_those_of_the_formula_over_live_rows(
    world: World, query: dict[str, int], k: int, cuts: list[int]
) -> None:
    expected = oracle(world, query)
    found = answers(parts_of(world, cuts), query, k)
    assert found == pytest.approx({n: expected[n] for n in found}, rel=1e-6)
    assert len(found) >= min(k, len(expected))
    worst = min(found.values(), default=0.0)
    beaten = [score for n, score in expected.items() if n not in found]
    assert all(score <= worst * (1 + 1e-6) for score in beaten)
    if len(found) > k:  # only because of ties with the k-th
        assert sorted(found.values(), reverse=True)[k - 1] == worst


@settings(max_examples=300, deadline=None)
@given(worlds(), QUERIES, st.integers(1, 10), st.lists(st.integers(0, 60), max_size=4))
def test_scores_depend_neither_on_how_rows_are_spread_nor_on_the_order_of_the_query_to_the_bit(
    world: World, query: dict[str, int], k: int, cuts: list[int]
) -> None:
    whole = answers(parts_of(world, []), query, k)
    assert answers(parts_of(world, cuts), query, k) == whole
    backwards = dict(reversed(query.items()))
    assert answers(parts_of(world, cuts), backwards, k) == whole


@settings(max_examples=300, deadline=None)
@given(worlds(), QUERIES, st.integers(1, 10))
def test_deleted_rows_leave_no_trace(world: World, query: dict[str, int], k: int) -> None:
    alive = [n for n in range(len(world.rows)) if world.live[n]]
    fresh = World(
        [world.rows[n] for n in alive],
        [True] * len(alive),
        world.allowed and [world.allowed[n] for n in alive],
    )
    renumbered = {alive[n]: score for n, score in answers(parts_of(fresh, []), query, k).items()}
    assert answers(parts_of(world, []), query, k) == renumbered


@settings(max_examples=300, deadline=None)
@given(worlds(), QUERIES, st.integers(1, 10), st.lists(st.integers(0, 60), max_size=3))
def test_a_merge_changes_no_score(
    world: World, query: dict[str, int], k: int, cuts: list[int]
) -> None:
    parts = parts_of(world, cuts)
    kept = [np.flatnonzero(part.live) for part in parts if part.live is not None]
    table = WordTable(merged([(p.rows, rows) for p, rows in zip(parts, kept, strict=True)]))
    alive = [n for n in range(len(world.rows)) if world.live[n]]
    assert table.rows == len(alive)
    live: Mask = np.ones(table.rows, np.bool_)
    allowed = world.allowed and np.array([world.allowed[n] for n in alive], np.bool_)
    totals = live_totals(table.lengths(table.rows), live)
    mask = None if world.allowed is None else np.array(allowed, np.bool_)
    whole = answers([Part(table, table.rows, live, *totals, mask)], query, k)
    assert {alive[n]: score for n, score in whole.items()} == answers(parts, query, k)


@settings(max_examples=200, deadline=None)
@given(worlds(), QUERIES, st.lists(st.integers(0, 60), max_size=3))
def test_a_filter_and_k_change_who_is_found_but_no_score(
    world: World, query: dict[str, int], cuts: list[int]
) -> None:
    whole = answers(parts_of(World(world.rows, world.live, None), cuts), query, 100)
    for k in (1, 3, 100):
        some = answers(parts_of(world, cuts), query, k)
        assert some.items() <= whole.items()
    expected = {n: score for n, score in whole.items() if world.found(n)}
    assert answers(parts_of(world, cuts), query, 100) == expected


@settings(max_examples=200, deadline=None)
@given(worlds(), QUERIES, st.data())
def test_a_row_scored_by_itself_has_the_score_of_the_search(
    world: World, query: dict[str, int], data: st.DataObject
) -> None:
    parts = parts_of(World(world.rows, world.live, None), [20])
    whole = answers(parts, query, 100)
    ranked = ranking(parts, query)
    first = 0
    for at, part in enumerate(parts):
        rows = sorted(data.draw(st.sets(st.integers(0, max(0, part.count - 1)))))
        rows = [row for row in rows if row < part.count and world.live[first + row]]
        scores = ranked.scores(at, np.array(rows, np.int64)).tolist()
        assert scores == [whole.get(first + row, 0.0) for row in rows]
        first += part.count


def test_a_search_that_ends_early_finds_what_a_whole_one_finds() -> None:
    """Large enough for lists to be looked up instead of read, and for a second part to be left
    unread; word ranks as in prose."""
    random = np.random.default_rng(7)
    numbers = np.minimum(random.zipf(1.3, (6_000, 20)), 3_000)
    rows = [[f"w{n}" for n in row] for row in numbers.tolist()]
    live = (random.random(len(rows)) < 0.9).tolist()
    for selectivity in (None, 0.5, 0.01):
        allowed = None if selectivity is None else (random.random(len(rows)) < selectivity).tolist()
        world = World(rows, live, allowed)
        parts = parts_of(world, [4_000])
        for query in (["w1", "w2", "w700", "w30"], ["w1", "w1", "w5"], ["w2999", "w1"]):
            expected = oracle(world, Counter(query))
            for k in (1, 10, 500):
                found = answers(parts, Counter(query), k)
                best = sorted(expected, key=lambda n: -expected[n])[:k]
                assert len(found) >= len(best)
                assert sorted(found.values(), reverse=True)[:k] == pytest.approx(
                    [expected[n] for n in best], rel=1e-6
                )
                assert found == pytest.approx({n: expected[n] for n in found}, rel=1e-6)


def test_equal_texts_are_all_there_however_small_k_is() -> None:
    world = World([["a", "b"]] * 50 + [["b"]], [True] * 51, None)
    assert set(answers(parts_of(world, [10, 30]), {"a": 1}, 1)) == set(range(50))


def test_nothing_to_search_is_no_error() -> None:
    assert ranking([], {"a": 1}).top(3) == []
    assert answers(parts_of(World([], [], None), []), {"a": 1}, 3) == {}
    assert answers(parts_of(World([["a"]], [True], None), []), {}, 3) == {}
    assert answers(parts_of(World([["a"]], [False], None), []), {"a": 1}, 3) == {}
    assert answers(parts_of(World([[]], [True], None), []), {"a": 1}, 3) == {}


def test_words_of_equal_weight_are_added_in_one_order_whatever_the_query_says() -> None:
    """Sums of floats depend on their order, if seldom enough for random tests to miss it."""
    parts = parts_of(World([["a"], ["b"], ["c"], ["d"]], [True] * 4, None), [2])
    orders = [
        [[word.postings.positions.tolist() for word in words] for words in ranked.lists]
        for ranked in (ranking(parts, dict.fromkeys(query, 1)) for query in ("abcd", "dcba"))
    ]
    assert orders[0] == orders[1] == [[[0], [1]], [[0], [1]]]
