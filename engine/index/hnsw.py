"""One HNSW graph over rows that never change: hnswlib without its traps.

What hnswlib 0.8 does, and how this avoids it:

- Adding while searching is a race. A `Graph` is built whole, then only searched.
- `set_ef` is shared by all threads. It is called once; since hnswlib searches with
  max(ef, k), a search that wants a wider beam asks for more neighbors instead.
- Asking for more neighbors than are reachable raises a RuntimeError about a "contiguous 2D
  array" and leaks two buffers. `k` is clamped, and a graph that failed once at some `k` answers
  None from then on for as many: the caller scans.
- The filter callback takes the GIL for every node visited. There is none: callers filter after.
- It holds the GIL for the first row added, for nothing long after: building in another thread
  lets searches go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import hnswlib
import numpy as np
from numpy.typing import NDArray

from engine.errors import Cancelled
from engine.index.exact import Metric, Positions
from engine.types import Matrix, Vector

_ROWS_PER_STEP = 4_096
"""Rows added between two looks at `stop`: about half a second at 384 dimensions."""


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """`m`: links per node, memory and recall. `ef_construction`: beam while building, build time
    and recall. `ef_search`: least beam while searching, query time and recall.

    `exact_values`: a collection of at most so many points times dimensions is scanned whole, graph
    or not. The default is 8,192 points of 384: that takes 0.35 ms, a walk 0.1 ms; and a walk at ef
    64 misses one of the ten nearest for 6 % of SciFact's train queries (5,183 abstracts; recall@10
    0.993).
    """

    m: int = 16
    ef_construction: int = 100
    ef_search: int = 64
    exact_values: int = 8_192 * 384


class Graph:
    """Approximate nearest neighbors among the rows it was built over, by position."""

    __slots__ = ("_index", "_k_reachable", "count", "settings")

    def __init__(self, index: hnswlib.Index, count: int, settings: GraphSettings) -> None:
        """Over an index that nobody else writes to; use `build`."""
        self._index = index
        self._k_reachable = count
        self.count = count
        self.settings = settings

    @classmethod
    def build(
        cls,
        metric: Metric,
        vectors: Matrix,
        positions: Positions,
        settings: GraphSettings,
        *,
        threads: int = 1,
        stop: Callable[[], bool] = lambda: False,
    ) -> Graph:
        """A graph over `vectors[positions]`, prepared for the metric; at least one row.

        Releases the GIL while it works. With one thread the same rows give the same graph.
        Raises Cancelled soon after `stop` answers True.
        """
        index = hnswlib.Index("l2" if metric is Metric.EUCLIDEAN else "ip", vectors.shape[1])
        index.init_index(
            max_elements=len(positions),
            M=settings.m,
            ef_construction=settings.ef_construction,
            random_seed=100,
        )
        for start in range(0, len(positions), _ROWS_PER_STEP):
            if stop():
                raise Cancelled(
                    f"building a graph was stopped at {start} of {len(positions)} rows",
                    metadata={"rows": start, "rows_total": len(positions)},
                )
            step = positions[start : start + _ROWS_PER_STEP]
            index.add_items(vectors[step], step, num_threads=threads)
        index.set_ef(settings.ef_search)
        index.set_num_threads(1)
        return cls(index, len(positions), settings)

    def search(self, query: Vector, k: int) -> tuple[Positions, NDArray[np.float32]] | None:
        """Positions of about the nearest min(`k`, `count`), nearest first, and their distances.

        Distances are hnswlib's: 1 - dot, or squared Euclidean. The beam is max(ef_search, k).
        None if the graph cannot reach so many rows; scan them instead.
        """
        wanted = min(k, self.count)
        if wanted > self._k_reachable:
            return None
        try:
            labels, distances = self._index.knn_query(query, wanted, num_threads=1)
        except RuntimeError:
            self._k_reachable = min(self._k_reachable, wanted - 1)
            return None
        return labels[0].astype(np.int64), distances[0]

    @property
    def nbytes(self) -> int:
        """About how much memory the graph takes, in bytes.

        Per row: the vector, 2 m links of 4 bytes at level 0 with their count, the label, about
        m / ln(m) more for the upper levels, and about 50 for hnswlib's label table.
        """
        m = self.settings.m
        per_row = 4 * int(self._index.dim) + 8 * m + 4 + 8 + round(4 * m / np.log(max(m, 2))) + 50
        return int(self.count * per_row)
