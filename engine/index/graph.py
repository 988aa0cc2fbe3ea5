"""An HNSW graph over the rows of a segment: the links only, the vectors stay where they are.

The links are plain arrays, so a graph goes into a file as it is and comes back as a memory map. It
is built whole and never changes; any number of threads search it. The walk itself, in
`ragmesh_native`, computes without the GIL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import (
    GraphArrays,
    Stopped,
    Vectors,
    build_graph,
    check_graph,
    search_graph,
    search_graph_together,
)

from engine.errors import Cancelled, DataLoss
from engine.index.exact import NATIVE, Metric, Positions
from engine.types import Matrix, Vector

_SEED: Final = 100
"""Any will do, as long as every node uses the same: equal rows must give equal graphs."""

_ARRAYS: Final = ("graph.level0", "graph.levels", "graph.upper", "graph.upper_start")
_HEAD: Final = "graph.head"
_TWINS: Final = "graph.twins"
VISITS_MAX: Final = 2**63
"""More rows than there can be: no bound."""


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """`m`: links per node, 2..128, memory and recall. `ef_construction`: beam while building, build
    time and recall. `ef_search`: least beam while searching, query time and recall.

    `exact_values`: a collection of at most so many points times dimensions is scanned whole, graph
    or not. The default is 8,192 points of 384: that takes 0.35 ms, a walk 0.1 ms; and a walk at ef
    64 misses one of the ten nearest for 6 % of SciFact's train queries (5,183 abstracts; recall@10
    0.993).
    """

    m: int = 16
    ef_construction: int = 100
    ef_search: int = 64
    exact_values: int = 8_192 * 384


class Walk(NamedTuple):
    """What a search of a graph found: positions and scores, best first, ties by position.

    `visited` rows were scored on the way. `complete` is False if `visits_max` ended the search.
    """

    positions: Positions
    scores: NDArray[np.float32]
    visited: int
    complete: bool


class Beam(NamedTuple):
    """How a graph is searched: for about the best `k` of the `allowed` rows (one entry a row; None:
    of all), with a beam of max(`ef`, `k`).

    After about `visits_max` scored rows the search ends with what it has. What is found is scored
    anew over `precise`, where it is given. With `settled`, a walk ends before its beam does where
    so many of the best, at least 15, have stood still for long.
    """

    k: int
    ef: int
    allowed: NDArray[np.bool_] | None = None
    visits_max: int = VISITS_MAX
    precise: Vectors | None = None
    settled: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Approximate nearest neighbors among the rows that are its nodes, by position."""

    metric: Metric
    links: GraphArrays
    settings: GraphSettings

    @classmethod
    def build(
        cls,
        metric: Metric,
        vectors: Vectors | Matrix,
        members: Positions | NDArray[np.uint32],
        settings: GraphSettings,
        *,
        stop: NDArray[np.uint8] | None = None,
        base: Graph | None = None,
    ) -> Graph:
        """A graph whose nodes are the rows at `members`, ascending; there may be none.

        One thread, without the GIL; equal vectors, members and settings give equal graphs on every
        machine. From its entry every node can be reached. A `base` is a graph of the first rows,
        with the same `m`: its links are kept, and members start behind its rows.

        `stop`, one entry, may be set by another thread. Raises Cancelled soon after it is not 0.
        """
        try:
            links = build_graph(
                as_vectors(vectors),
                members,
                settings.m,
                settings.ef_construction,
                _SEED,
                NATIVE[metric],
                None if base is None else base.links,
                stop,
            )
        except Stopped as error:
            raise Cancelled(
                f"building a graph of {len(members)} rows was stopped",
                metadata={"rows_total": len(members)},
            ) from error
        return cls(metric, links, settings)

    @classmethod
    def of(
        cls, arrays: Mapping[str, NDArray[Any]], metric: Metric, settings: GraphSettings
    ) -> Graph:
        """The graph that gave these arrays, which it shares; O(1).

        Raises KeyError or ValueError if they are not all there or do not fit each other. Searching
        damaged links does no harm, but finds less: `check` those of a file that was not verified.
        """
        entry, max_level = arrays[_HEAD].tolist()
        level0, levels, upper, upper_start = (arrays[name] for name in _ARRAYS)
        twins = arrays.get(_TWINS)
        links = GraphArrays(level0, levels, upper, upper_start, entry, max_level, twins)
        return cls(metric, links, settings)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The links, to be written to a file; shared, not copied."""
        links = self.links
        parts = (links.level0, links.levels, links.upper, links.upper_start)
        out: dict[str, NDArray[Any]] = dict(zip(_ARRAYS, parts, strict=True))
        out[_HEAD] = np.array([links.entry, links.max_level], np.int64)
        if links.twins is not None:
            out[_TWINS] = links.twins
        return out

    def check(self) -> None:
        """Looks at every link, O(links). Raises DataLoss if one leads nowhere."""
        try:
            check_graph(self.links)
        except ValueError as error:
            raise DataLoss(
                f"the links of a segment's graph are damaged ({error}); build the index again",
                metadata={"reason": str(error)},
            ) from error

    def search(self, vectors: Vectors | Matrix, query: Vector, beam: Beam) -> Walk:
        """The nodes near a query. `vectors` are those that the graph was built over, or the same at
        another precision; scores are those of `exact.scores` over them, or over `beam.precise`.
        """
        k, ef, allowed, visits_max, precise, settled = beam
        given, metric = as_vectors(vectors), NATIVE[self.metric]
        return Walk(
            *search_graph(
                self.links, given, query, k, ef, metric, allowed, visits_max, precise, settled
            )
        )

    def search_together(self, vectors: Vectors | Matrix, queries: Matrix, beam: Beam) -> list[Walk]:
        """What `search` finds for each of the `queries`, shape (n, dimensions). Other threads
        compute meanwhile, and this one waits for them once instead of n times."""
        k, ef, allowed, visits_max, precise, settled = beam
        given, metric = as_vectors(vectors), NATIVE[self.metric]
        found = search_graph_together(
            self.links, given, queries, k, ef, metric, allowed, visits_max, precise, settled
        )
        return [Walk(*one) for one in found]

    @property
    def nbytes(self) -> int:
        """What the links take, in bytes, in memory or mapped."""
        return sum(array.nbytes for array in self.arrays().values())


def as_vectors(vectors: Vectors | Matrix) -> Vectors:
    """Vectors as the native module takes them, without copying; float32 if given as an array."""
    return vectors if isinstance(vectors, Vectors) else Vectors(vectors)
