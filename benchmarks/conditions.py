"""Filters of a known selectivity whose relation to a query is known: what the suite `filter` asks.

Every point gets numbers from 0 to 1 (1 left out), each number a rank, so that a share of a range is
the same share of the points:

- `any`: its place in an order drawn from a seed. A range of it knows nothing of the query.
- `near_0` and on: its place by distance from one of eight pivots, the centers that k-means finds.
  For a query whose nearest pivot is p, the least of `near_p` are the points on the query's side,
  and the greatest those on the far side, where a graph's search does not go by itself. Of SciFact's
  sentences, the tenth on the query's side has 44 % of its ten nearest, the far tenth none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Matrix

Relation = Literal["independent", "correlated", "opposed"]
RELATIONS: tuple[Relation, ...] = ("independent", "correlated", "opposed")
ANY = "any"
PIVOTS = 8
_ROUNDS = 6

Numbers = Mapping[str, NDArray[np.float64]]
"""For each field, a number for each point."""


@dataclass(frozen=True, slots=True)
class Range:
    """`field` from `gte` to `lt`, which is left out."""

    field: str
    gte: float
    lt: float

    def mask(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Which points it lets through."""
        values = numbers[self.field]
        return (values >= self.gte) & (values < self.lt)


@dataclass(frozen=True, slots=True)
class Numbered:
    """What points carry, and the pivots behind it, normalized rows."""

    numbers: Numbers
    pivots: Matrix


def number(points: Matrix, *, pivots: int = PIVOTS, seed: int = 0) -> Numbered:
    """Numbers for normalized rows."""
    random = np.random.default_rng(seed)
    centers = _centers(points, pivots, random)
    numbers = {f"near_{p}": _ranked(-(points @ one)) for p, one in enumerate(centers)}
    numbers[ANY] = random.permutation(len(points)) / len(points)
    return Numbered(numbers, centers)


def _centers(points: Matrix, count: int, random: np.random.Generator) -> Matrix:
    """Spherical k-means, a few rounds of it, from points that lie apart: the first is drawn, and
    each next one is the point whose nearest before it is the farthest."""
    chosen = [int(random.integers(len(points)))]
    closeness = points @ points[chosen[0]]
    for _ in range(1, count):
        chosen.append(int(np.argmin(closeness)))
        closeness = np.maximum(closeness, points @ points[chosen[-1]])
    centers = points[chosen]
    for _ in range(_ROUNDS):
        nearest = np.argmax(points @ centers.T, axis=1)
        # One that no point is nearest to stays where it is.
        sums = [
            np.sum(points[nearest == p], axis=0) if np.any(nearest == p) else center
            for p, center in enumerate(centers)
        ]
        together = np.stack(sums)
        lengths = np.linalg.norm(together, axis=1, keepdims=True)
        centers = np.asarray(together / np.maximum(lengths, 1e-12), np.float32)
    return centers


def ranges(
    numbered: Numbered, queries: Matrix, relation: Relation, selectivity: float, *, seed: int = 0
) -> list[Range]:
    """A range for each query. No two are the same condition, so that nobody answers the second
    from what was kept of the first; those of one side and pivot let the same points through."""
    if not 0 < selectivity <= 1:
        raise ValueError(f"a selectivity of {selectivity} is not above 0 and at most 1")
    if relation == "independent":
        starts = np.random.default_rng(seed).uniform(0, 1 - selectivity, len(queries))
        return [Range(ANY, float(start), float(start) + selectivity) for start in starts]
    nearest = np.argmax(queries @ numbered.pivots.T, axis=1)
    if relation == "correlated":
        return [Range(f"near_{p}", -1.0 - i, selectivity) for i, p in enumerate(nearest.tolist())]
    return [Range(f"near_{p}", 1 - selectivity, 2.0 + i) for i, p in enumerate(nearest.tolist())]


def nearest_within(
    points: Matrix, numbers: Numbers, queries: Matrix, given: Sequence[Range], k: int
) -> list[NDArray[np.int64]]:
    """For each query, the numbers of the `k` nearest points that its range lets through, the best
    first; fewer where fewer match."""
    found = []
    for query, one in zip(queries, given, strict=True):
        rows = np.flatnonzero(one.mask(numbers))
        scores = points[rows] @ query if len(rows) * 20 < len(points) else (points @ query)[rows]
        best = np.argsort(-scores, kind="stable")[:k]
        found.append(rows[best].astype(np.int64))
    return found


def _ranked(values: NDArray[np.float32]) -> NDArray[np.float64]:
    ranks = np.empty(len(values), np.float64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values)) / len(values)
    return ranks
