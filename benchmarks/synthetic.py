"""Many clustered vectors, made again wherever they are needed instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Matrix, nearest

STEP = 10_000
_POINTS_OF_A_CLUSTER = 100
_SPREAD = 0.6


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Like `data.clustered`: 100 points to a cluster, each its center plus 0.6 of another draw,
    normalized. Rows come in steps of 10,000, each step from a seed of its own."""

    count: int
    dimensions: int = 384
    seed: int = 0

    def steps(self, start: int = 0) -> Iterator[tuple[int, Matrix]]:
        """All rows from the step on that begins at `start`, each step with its first row's
        number. Raises ValueError where no step begins there."""
        if start % STEP:
            raise ValueError(f"steps begin at multiples of {STEP}, and {start} is none")
        centers = self._centers()
        for first in range(start, self.count, STEP):
            number = first // STEP
            yield first, self._drawn(centers, min(STEP, self.count - first), 1 + number)

    def queries(self, count: int) -> Matrix:
        """Made as points are; none of them is one."""
        return self._drawn(self._centers(), count, -1)

    def exact(self, queries: Matrix, k: int) -> NDArray[np.int64]:
        """The numbers of the `k` nearest rows of each query, the best first."""
        rows: NDArray[np.int64] = np.empty((len(queries), 0), np.int64)
        scores: NDArray[np.float32] = np.empty((len(queries), 0), np.float32)
        for first, points in self.steps():
            found = nearest(points, queries, min(k, len(points)))
            near = np.einsum("qd,qkd->qk", queries, points[found])
            rows = np.concatenate([rows, found + first], axis=1)
            scores = np.concatenate([scores, near], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            rows = np.take_along_axis(rows, order, 1)
            scores = np.take_along_axis(scores, order, 1)
        return rows

    def _centers(self) -> Matrix:
        clusters = max(1, self.count // _POINTS_OF_A_CLUSTER)
        random = np.random.default_rng([self.seed, 0])
        return random.standard_normal((clusters, self.dimensions), np.float32)

    def _drawn(self, centers: Matrix, number: int, stream: int) -> Matrix:
        # A query's stream is one that no step has.
        random = np.random.default_rng([self.seed, stream % 2**32])
        rows = centers[random.integers(0, len(centers), number)]
        rows += np.float32(_SPREAD) * random.standard_normal(rows.shape, np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows
