"""What ragmesh computes in C++: nearest neighbors by a graph, scans, sparse products and BM25.

What takes long is computed without the GIL. Any number of threads may call any function. Arrays are
shared, never copied or converted: they must be C-contiguous and aligned, may be read-only and
mapped from a file, and must not be written while they are used. What has another dtype, shape or
length is refused with a ValueError that says so; a damaged graph is walked without harm.

A metric is "ip" (inner product), "cosine" (the inner product of rows that are normalized, clipped
to [-1, 1]) or "l2" (minus the Euclidean distance): a higher score is better. A pair of query and
row has one score, bit for bit, by whichever function and on whichever machine with fused
multiply-add (x86 with AVX2, arm64).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Metric: TypeAlias = Literal["ip", "cosine", "l2"]
Mask: TypeAlias = NDArray[np.bool_] | NDArray[np.uint8]
"""One byte a row."""
Places: TypeAlias = NDArray[np.uint32] | NDArray[np.int64]
"""Positions of rows, each below their number."""

Walked: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32], int, bool]

class Vectors:
    """What queries are compared with: shape (rows, dimensions), float32, float16 or int8.

    `scales`: for int8 only, float32 of shape (rows,): a row is its values times its scale. At most
    4,294,967,294 rows. Holds the arrays, and costs O(1).
    """

    def __init__(self, values: NDArray[Any], scales: NDArray[np.float32] | None = None) -> None: ...
    def __len__(self) -> int: ...
    @property
    def values(self) -> NDArray[Any]: ...
    @property
    def scales(self) -> NDArray[np.float32] | None: ...

class GraphArrays:
    """An HNSW graph as arrays. Making one from arrays costs O(1); see `check_graph`.

    A list of links is how many there are and then the positions they lead to. `level0`: uint32 of
    shape (rows, 2 m + 1), a list a row. `levels`: uint8, the highest level of a row's node, 255 for
    a row without a node. `upper`: uint32 of shape (lists, m + 1); the lists of row i at levels
    1..levels[i] stand together from `upper_start[i]` (uint32) on. `entry`: where a search starts,
    -1 in an empty graph. `m` is 2..128. Of rows that are the same only the first is a node; `twins`
    (uint32, for each row) leads from it through the others, 0 after the last; None without any.
    """

    def __init__(
        self,
        level0: NDArray[np.uint32],
        levels: NDArray[np.uint8],
        upper: NDArray[np.uint32],
        upper_start: NDArray[np.uint32],
        entry: int,
        max_level: int,
        twins: NDArray[np.uint32] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def level0(self) -> NDArray[np.uint32]: ...
    @property
    def levels(self) -> NDArray[np.uint8]: ...
    @property
    def upper(self) -> NDArray[np.uint32]: ...
    @property
    def upper_start(self) -> NDArray[np.uint32]: ...
    @property
    def twins(self) -> NDArray[np.uint32] | None: ...
    @property
    def m(self) -> int: ...
    @property
    def entry(self) -> int: ...
    @property
    def max_level(self) -> int: ...

class Stopped(Exception):
    """`stop` was set while a graph was built."""

def build_graph(
    vectors: Vectors,
    members: Places,
    m: int,
    ef_construction: int,
    seed: int,
    metric: Metric,
    base: GraphArrays | None = None,
    stop: NDArray[np.uint8] | None = None,
) -> GraphArrays:
    """A graph whose nodes are `members`, ascending, in one thread.

    Equal arguments give equal arrays. Every node can be reached from the entry at level 0. With a
    `base`, a graph of the first rows with the same m and metric, its links are kept and added to;
    members start at its number of rows. `stop`, of one entry, is looked at before each row.
    Raises Stopped soon after it is not 0.
    """

def check_graph(graph: GraphArrays) -> None:
    """Looks at every link, O(links). Raises ValueError if one leads nowhere."""

def search_graph(
    graph: GraphArrays,
    vectors: Vectors,
    query: NDArray[np.float32],
    k: int,
    ef: int,
    metric: Metric,
    allowed: Mask | None = None,
    visits_max: int = ...,
    precise: Vectors | None = None,
    settled: int = 0,
) -> Walked:
    """About the best `k` of the `allowed` rows, with a beam of max(ef, k). What is found is scored
    anew by `precise`, the same rows, where it is given. Walks over int8 round the query as well,
    so their own scores are near those of other functions, not the same.

    With `settled`, the walk ends before its beam does where so many of the best, at least 15, have
    stood still while it went on from 3/4 of a beam of rows.

    Positions and scores, best first, ties by position; how many rows were scored on the way; and
    whether the search ended by itself. It did not where it had scored `visits_max` rows, which it
    may pass by the neighbors of one node, or an eighth of them, of which so few were allowed that
    the others would not do.
    """

def search_graph_together(
    graph: GraphArrays,
    vectors: Vectors,
    queries: NDArray[np.float32],
    k: int,
    ef: int,
    metric: Metric,
    allowed: Mask | None = None,
    visits_max: int = ...,
    precise: Vectors | None = None,
    settled: int = 0,
) -> list[Walked]:
    """What `search_graph` gives for each of the `queries`, shape (n, dimensions), one after the
    other without the GIL in between."""

def scan(
    vectors: Vectors,
    query: NDArray[np.float32],
    k: int,
    metric: Metric,
    allowed: Mask | None = None,
    positions: Places | None = None,
    coarse: Vectors | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best `k` of the `allowed` rows, of those at `positions`, or of all; in no order.

    And all that tie with the last of them. Positions and scores. With `coarse`, what `encode_rows`
    gave for the same rows, only those are read that their codes do not rule out: the answer is the
    same. Euclidean distances gain nothing by them.
    """

def encode_rows(vectors: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes and scales of rows of float32 or float16, to be given to `Vectors`: each row by its own
    largest value; equal on every machine."""

def score_rows(
    vectors: Vectors, query: NDArray[np.float32], metric: Metric, positions: Places | None = None
) -> NDArray[np.float32]:
    """The score of each row at `positions`, or of every row."""

def bm25_top(
    postings: Sequence[tuple[NDArray[np.uint32], NDArray[np.uint16], float]],
    lengths: NDArray[np.uint32],
    mean_length: float,
    k1: float,
    b: float,
    allowed: Mask,
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best `k` of the allowed rows that have a word, and all that tie with the last of them.

    A word is where it stands, how often, and its weight, above 0. A row's score is the sum over
    its words, in their order and in float64, of weight * tf * (k1 + 1) / (tf + k1 * (1 - b + b *
    length / mean_length)), rounded once to float32: it depends on no other row.
    """

def sparse_top(
    postings: Sequence[tuple[NDArray[np.uint32], NDArray[np.float32], float]],
    count: int,
    allowed: Mask | None,
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best `k` by inner product of the allowed rows (None: all `count`) that have one of the
    dimensions, and all that tie with the last of them.

    A dimension is where it stands, ascending, the values there, and the query's own. A row's score
    is the sum over its dimensions, in their order and in float64, rounded once to float32: it
    depends on no other row, and may be 0 or below.
    """

def count_live(positions: NDArray[np.uint32], live: Mask) -> int:
    """How many of the positions are live."""

def instructions() -> str:
    """What distances are computed with: "avx512", "avx2", "neon" or "plain"."""

def use_instructions(name: str) -> None:
    """From now on, in this process; for tests. Raises ValueError if this machine has them not."""
