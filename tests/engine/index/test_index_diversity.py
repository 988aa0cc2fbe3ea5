"""Diverse hits are those that the published formula takes, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index.diversity import diversify
from engine.types import Vector


def taken_by_the_formula(
    relevance: list[float], vectors: list[Vector | None], k: int, weight: float
) -> list[int]:
    """Slow and obvious."""

    def similarity(a: Vector | None, b: Vector | None) -> float:
        if a is None or b is None or not a.any() or not b.any():
            return 0.0
        return float(a.astype(float) @ b / np.linalg.norm(a) / np.linalg.norm(b))

    least, span = min(relevance), max(relevance) - min(relevance)
    unit = [(value - least) / span if span else 0.0 for value in relevance]
    taken: list[int] = []
    while len(taken) < min(k, len(relevance)):
        left = [n for n in range(len(relevance)) if n not in taken]
        values = {}
        for n in left:
            near = max((similarity(vectors[n], vectors[t]) for t in taken), default=None)
            values[n] = unit[n] if near is None else weight * unit[n] - (1 - weight) * near
        best = max(values.values())
        taken.append(next(n for n in left if values[n] > best - 1e-9))
    return taken


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 10_000))
def test_the_next_hit_is_the_formulas(count: int, k: int, weight: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    relevance = sorted(random.normal(size=count).tolist(), reverse=True)
    vectors: list[Vector | None] = [
        None if random.random() < 0.1 else random.normal(size=3).astype(np.float32)
        for _ in range(count)
    ]
    assert diversify(relevance, vectors, k, weight) == taken_by_the_formula(
        relevance, vectors, k, weight
    )


def test_relevance_alone_keeps_the_order() -> None:
    vectors: list[Vector | None] = [np.ones(2, np.float32)] * 4
    assert diversify([4.0, 3.0, 2.0, 1.0], vectors, 3, 1.0) == [0, 1, 2]


def test_the_same_thing_twice_comes_last() -> None:
    same, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert diversify([1.0, 0.9, 0.5], [same, same, other], 3, 0.5) == [0, 2, 1]


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_of_equals_the_earlier_is_taken(weight: float) -> None:
    vectors: list[Vector | None] = [np.ones(2, np.float32)] * 3
    assert diversify([1.0, 1.0, 1.0], vectors, 3, weight) == [0, 1, 2]
    assert diversify([], [], 3, weight) == []
