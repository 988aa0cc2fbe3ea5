"""Figures of ranked lists are those that trec_eval and BEIR would print."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data import clustered, nearest
from benchmarks.metrics import mean_ndcg, mean_recall, ndcg, overlap, recall


@pytest.mark.parametrize(
    ("found", "grades", "depth", "expected"),
    [
        # 1/log2(2) + 1/log2(4) = 1.5, best 1 + 1/log2(3) + 1/log2(4) = 2.13093
        (["a", "x", "b"], {"a": 1, "b": 1, "c": 1}, 10, 0.703918),
        # linear gains: (2 + 3/log2(3)) / (3 + 2/log2(3)) = 3.892789 / 4.261860
        (["b", "a"], {"a": 3, "b": 2}, 10, 0.913402),
        # the best list has only as many as the depth: 1 / 1
        (["a", "x"], {"a": 1, "b": 1}, 1, 1.0),
        # rank 2 is worth 1/log2(3), and what lies below the depth nothing
        (["x", "a", "b"], {"a": 1, "b": 1}, 2, 0.386853),
        # a grade of 0 is a judgment that it is not relevant
        (["a", "b"], {"a": 0, "b": 1}, 10, 0.630930),
        (["a"], {"a": 0}, 10, 0.0),
        ([], {"a": 1}, 10, 0.0),
    ],
)
def test_ndcg_is_what_a_hand_computes(
    found: list[str], grades: dict[str, int], depth: int, expected: float
) -> None:
    assert ndcg(found, grades, depth) == pytest.approx(expected, abs=5e-7)


@given(st.permutations(list("abcdefgh")), st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_no_order_is_better_than_the_relevant_first_and_moving_one_up_never_hurts(
    order: list[str], relevant: set[str]
) -> None:
    grades = dict.fromkeys(relevant, 1)
    best = sorted(order, key=lambda one: one not in relevant)
    value = ndcg(order, grades, 5)
    assert value <= ndcg(best, grades, 5) == pytest.approx(1.0)
    place = max(order.index(one) for one in relevant)
    if place and order[place - 1] not in relevant:
        order[place - 1], order[place] = order[place], order[place - 1]
        assert ndcg(order, grades, 5) >= value


def test_recall_is_the_share_of_the_relevant_that_was_found() -> None:
    grades = {"a": 1, "b": 2, "c": 0, "d": 1}
    assert recall(["a", "c", "b"], grades, 3) == pytest.approx(2 / 3)
    assert recall(["a", "c", "b"], grades, 2) == pytest.approx(1 / 3)
    assert recall(["a"], {"a": 0}, 1) == 0.0


def test_a_query_that_found_nothing_counts_in_the_mean() -> None:
    qrels = {"1": {"a": 1}, "2": {"b": 1}}
    assert mean_ndcg({"1": ["a"]}, qrels, 10) == 0.5
    assert mean_recall({"1": ["a"], "3": ["b"]}, qrels, 10) == 0.5


def test_exact_neighbors_are_those_of_a_full_sort_and_overlap_counts_them() -> None:
    data = clustered(700, 300, dimensions=16, clusters=7)
    sorted_all = np.argsort(-(data.queries @ data.points.T), axis=1)[:, :10]
    assert (data.exact == sorted_all).all()
    assert (nearest(data.points, data.queries, 3) == sorted_all[:, :3]).all()
    found = sorted_all.tolist()
    assert overlap(found, data.exact) == 1.0
    found[0] = [-1] * 5 + found[0][:5]
    assert overlap(found, data.exact) == pytest.approx(1 - 0.5 / 300)
    assert np.linalg.norm(data.points, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (clustered(700, 300, dimensions=16, clusters=7).points == data.points).all()
