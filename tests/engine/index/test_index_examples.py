"""Search by examples means what it says about averages and best scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidVector
from engine.index.exact import Metric
from engine.index.examples import average, best_scores


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 10_000))
def test_the_average_goes_from_negative_through_positive(
    likes: int, dislikes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    positive = list(random.normal(size=(likes, 4)).astype(np.float32))
    negative = list(random.normal(size=(dislikes, 4)).astype(np.float32))
    expected = sum(positive) / likes
    if dislikes:
        expected = 2 * expected - sum(negative) / dislikes
    assert average(positive, negative) == pytest.approx(expected, abs=1e-5)
    assert average(positive, negative).dtype == np.float32


def test_examples_that_cancel_each_other_are_refused() -> None:
    one = np.array([1, 0], np.float32)
    with pytest.raises(InvalidVector, match="cancel"):
        average([one, -one], [])
    with pytest.raises(InvalidVector, match="cancel"):
        average([one], [2 * one])


@given(st.sampled_from(Metric), st.integers(1, 4), st.integers(0, 4), st.integers(0, 10_000))
def test_the_best_score_is_the_best_of_each(
    metric: Metric, likes: int, dislikes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)

    def drawn(count: int) -> np.ndarray:
        rows = random.normal(size=(count, 3))
        if metric is Metric.COSINE:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32)

    def score(row: np.ndarray, example: np.ndarray) -> float:
        if metric is Metric.EUCLIDEAN:
            return -float(np.linalg.norm(row - example))
        return float(row @ example)

    rows, positive, negative = drawn(6), drawn(likes), drawn(dislikes)
    scores, kept = best_scores(metric, rows, list(positive), list(negative))
    for row, found, keep in zip(rows, scores, kept, strict=True):
        best = max(score(row, one) for one in positive)
        worst = max((score(row, one) for one in negative), default=-np.inf)
        assert found == pytest.approx(best, abs=1e-5)
        if abs(best - worst) > 1e-5:
            assert keep == (best > worst)
