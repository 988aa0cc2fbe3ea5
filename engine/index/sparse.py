"""Sparse vectors: few numbers of a very long vector, searched exactly by inner product.

A row is found if it has one of the query's dimensions; its score is the sum over those, in
ascending order and in float64, rounded once to float32. So it is a function of the query and the
row alone, the same to the bit in a buffer and in a segment, and may be 0 or below.

Arrays of a segment, where a row has any (n rows, m entries of t distinct dimensions):
- `sparse.starts` int64 (n + 1): where a row's entries begin in `sparse.indices` uint32 (m),
  ascending within a row, and `sparse.values` float32 (m).
- the same by dimension, as searches read it: `sparse.dimensions` uint32 (t), ascending;
  `sparse.list_starts` int64 (t + 1) into `sparse.positions` uint32 (m), ascending within a
  dimension, and `sparse.weights` float32 (m).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import sparse_top

from engine.errors import InvalidVector
from engine.index.columns import bytes_of
from engine.index.files import Array, Arrays
from engine.types import SparseVector

ENTRIES_MAX = 4_096
"""Entries of one vector."""

MAGNITUDE_MAX = 1e15
"""Of a value: no sum of products is beyond float32."""

Mask = NDArray[np.bool_]
Lists = list[tuple[NDArray[np.uint32], NDArray[np.float32], float]]
"""For each dimension of a query that a row has: the rows, ascending, their values there, and the
query's own."""

_ENTRY_BYTES = 8 + 4 + 8  # a key and a value of a run, an index and a value of a point
_ROW_BITS = np.uint64(32)
_ROW = np.uint64(0xFFFF_FFFF)


def prepare(indices: NDArray[Any], values: NDArray[Any], field: str) -> SparseVector:
    """A vector as the index takes it, its indices in order.

    Raises InvalidVector, naming `field`, unless there are 1 to ENTRIES_MAX entries, each index
    once, each value finite, not 0 and at most MAGNITUDE_MAX.
    """
    count = len(indices)
    if count != len(values):
        raise _invalid(field, f"has {count} indices and {len(values)} values; give one for each")
    if not 1 <= count <= ENTRIES_MAX:
        raise _invalid(field, f"has {count} entries; give 1 to {ENTRIES_MAX:,}")
    places = np.ascontiguousarray(indices, np.uint32)
    numbers = np.ascontiguousarray(values, np.float32)
    # What is not a number compares as False.
    wrong = ~((np.abs(numbers) <= MAGNITUDE_MAX) & (numbers != 0))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise _invalid(
            field,
            f"has {float(numbers[at])} at index {int(places[at])}; give finite numbers of at most "
            f"{MAGNITUDE_MAX:g}, and leave out what is 0",
        )
    if count > 1 and not bool(np.all(places[1:] > places[:-1])):
        order = np.argsort(places, kind="stable")
        places, numbers = places[order], numbers[order]
        twice = np.flatnonzero(places[1:] == places[:-1])
        if len(twice):
            raise _invalid(field, f"has index {int(places[twice[0]])} twice; give each once")
    return SparseVector(places, numbers)


def _invalid(field: str, what: str) -> InvalidVector:
    return InvalidVector(f"{field} {what}.", field=field, metadata={"field": field})


class SparseRows(Protocol):
    """What a search needs to know about the sparse vectors of some rows."""

    def lists(self, query: SparseVector, count: int) -> Lists:
        """Those of the query's dimensions that any of the first `count` rows has; ascending for
        each row."""

    @property
    def nbytes(self) -> int:
        """About how much memory this takes, in bytes; of mapped arrays, how much they could."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are searched: the first `count` of `rows`, and which of them may be found (None:
    all)."""

    rows: SparseRows
    count: int
    allowed: Mask | None


class Hits(NamedTuple):
    """Rows of one part with their scores, in no order."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """For each part, its rows among the best of all, and how many entries were read."""

    hits: list[Hits]
    entries: int


def top(parts: Sequence[Part], query: SparseVector, k: int) -> Found:
    """The best `k` rows of all parts, and all that tie with the last of them."""
    hits, entries = [], 0
    for part in parts:
        lists = part.rows.lists(query, part.count)
        entries += sum(len(positions) for positions, _, _ in lists)
        hits.append(Hits(*sparse_top(lists, part.count, part.allowed, k)))
    scores = np.concatenate([np.empty(0, np.float32), *(one.scores for one in hits)])
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        hits = [Hits(rows[there >= least], there[there >= least]) for rows, there in hits]
    return Found(hits, entries)


class _Run(NamedTuple):
    """Entries by dimension and row, ascending: the dimension in the upper half of the key, the row
    in the lower. Written once."""

    keys: NDArray[np.uint64]
    values: NDArray[np.float32]


class SparseBuffer:
    """Rows that are still being written: one writer appends while any number of readers read.

    As `postings.WordBuffer`: each append sorts its entries into a run, and joins it with the runs
    before that are no larger. A reader takes the tuple of runs once, and its `count` leaves out
    what came after its view.
    """

    __slots__ = ("_rows", "_runs")

    def __init__(self) -> None:
        self._runs: tuple[_Run, ...] = ()
        self._rows = 0

    def append(self, first_row: int, vectors: Sequence[SparseVector | None]) -> None:
        """Take in rows `first_row`, `first_row` + 1, …

        Rows from `first_row` on that were appended before are forgotten: their commit failed.
        """
        if first_row < self._rows:
            self._runs = tuple(_before(run, first_row) for run in self._runs)
        self._rows = first_row + len(vectors)
        given = [(row, one) for row, one in enumerate(vectors, first_row) if one is not None]
        if not given:
            return
        keys = np.concatenate([one.indices for _, one in given]).astype(np.uint64)
        keys <<= _ROW_BITS
        counts = [len(one) for _, one in given]
        keys |= np.repeat(np.array([row for row, _ in given], np.uint64), counts)
        new = _joined([_Run(keys, np.concatenate([one.values for _, one in given]))])
        runs = list(self._runs)
        while runs and len(runs[-1].keys) <= len(new.keys):
            new = _joined([runs.pop(), new])
        self._runs = (*runs, new)

    def lists(self, query: SparseVector, count: int) -> Lists:
        """Those of the query's dimensions that any of the first `count` rows has; ascending for
        each row."""
        found: Lists = []
        firsts = query.indices.astype(np.uint64) << _ROW_BITS
        # A row is in one run, so that its dimensions are added in order.
        for keys, values in self._runs:
            lows = np.searchsorted(keys, firsts)
            highs = np.searchsorted(keys, firsts + np.uint64(count))
            known = np.flatnonzero(lows < highs)
            ends = zip(lows[known].tolist(), highs[known].tolist(), strict=True)
            for (low, high), weight in zip(ends, query.values[known].tolist(), strict=True):
                positions = (keys[low:high] & _ROW).astype(np.uint32)
                found.append((positions, values[low:high], weight))
        return found

    @property
    def nbytes(self) -> int:
        """About how much memory this takes, in bytes, with the vectors that points hold."""
        return sum(len(run.keys) for run in self._runs) * _ENTRY_BYTES


def _before(run: _Run, row: int) -> _Run:
    """What a run says of the rows before this one."""
    kept = (run.keys & _ROW) < row
    return run if kept.all() else _Run(run.keys[kept], run.values[kept])


def _joined(runs: Sequence[_Run]) -> _Run:
    """One run of several, in order."""
    keys = np.concatenate([run.keys for run in runs])
    order = np.argsort(keys, kind="stable")  # which merges what is sorted already
    return _Run(keys[order], np.concatenate([run.values for run in runs])[order])


class PackedRows:
    """Rows as the first three arrays of the module have them."""

    __slots__ = ("_indices", "_starts", "_values")

    def __init__(self, arrays: Arrays) -> None:
        """Raises KeyError for a missing array, ValueError for lengths that do not agree."""
        self._starts: NDArray[np.int64] = arrays["sparse.starts"]
        self._indices: NDArray[np.uint32] = arrays["sparse.indices"]
        self._values: NDArray[np.float32] = arrays["sparse.values"]
        if not len(self._indices) == len(self._values) == self._starts[-1]:
            raise ValueError("sparse vectors have not as many indices as values")

    @classmethod
    def of(cls, arrays: Arrays) -> PackedRows | None:
        """None where no row has a sparse vector."""
        return cls(arrays) if "sparse.starts" in arrays else None

    def __len__(self) -> int:
        return len(self._starts) - 1

    def vector(self, position: int) -> SparseVector | None:
        """The vector of one row; None where there is none."""
        start, end = self._starts[position : position + 2].tolist()
        if start == end:
            return None
        return SparseVector(self._indices[start:end], self._values[start:end])


class SparseTable:
    """The sparse vectors of a segment, read from its arrays."""

    __slots__ = ("_dimensions", "_positions", "_starts", "_weights", "nbytes", "rows")

    def __init__(self, arrays: Arrays) -> None:
        """Raises KeyError for a missing array, ValueError for lengths that do not agree."""
        self.rows = PackedRows(arrays)
        self._dimensions: NDArray[np.uint32] = arrays["sparse.dimensions"]
        self._starts: NDArray[np.int64] = arrays["sparse.list_starts"]
        self._positions: NDArray[np.uint32] = arrays["sparse.positions"]
        self._weights: NDArray[np.float32] = arrays["sparse.weights"]
        if len(self._starts) != len(self._dimensions) + 1:
            raise ValueError("sparse dimensions have not as many lists")
        if not len(self._positions) == len(self._weights) == self._starts[-1]:
            raise ValueError("sparse lists have not as many positions as weights")
        self.nbytes = bytes_of(arrays, "sparse.")

    def lists(self, query: SparseVector, count: int) -> Lists:
        """Those of the query's dimensions that any row has, ascending."""
        places = np.searchsorted(self._dimensions, query.indices)
        places[places == len(self._dimensions)] = 0
        known = np.flatnonzero(self._dimensions[places] == query.indices)
        places = places[known]
        return [
            (self._positions[low:high], self._weights[low:high], weight)
            for low, high, weight in zip(
                self._starts[places].tolist(),
                self._starts[places + 1].tolist(),
                query.values[known].tolist(),
                strict=True,
            )
        ]


def pack_rows(given: Sequence[SparseVector | None]) -> dict[str, Array]:
    """The first three arrays of the module; nothing where no row has a vector."""
    some = [one for one in given if one is not None]
    if not some:
        return {}
    starts = np.zeros(len(given) + 1, np.int64)
    np.cumsum([0 if one is None else len(one) for one in given], out=starts[1:])
    return {
        "sparse.starts": starts,
        "sparse.indices": np.concatenate([one.indices for one in some]),
        "sparse.values": np.concatenate([one.values for one in some]),
    }


def gathered(sources: Sequence[tuple[Arrays, NDArray[np.int64]]]) -> dict[str, Array]:
    """The first three arrays of the module, of the rows kept of each source; nothing where none of
    them has a vector."""
    counts = [np.zeros(1, np.int64)]
    indices, values = [np.zeros(0, np.uint32)], [np.zeros(0, np.float32)]
    for arrays, kept in sources:
        if "sparse.starts" not in arrays:
            counts.append(np.zeros(len(kept), np.int64))
            continue
        starts = arrays["sparse.starts"]
        lengths = starts[kept + 1] - starts[kept]
        counts.append(lengths)
        places = np.repeat(starts[kept] - (np.cumsum(lengths) - lengths), lengths)
        places += np.arange(len(places))
        indices.append(arrays["sparse.indices"][places])
        values.append(arrays["sparse.values"][places])
    starts = np.cumsum(np.concatenate(counts))
    if not starts[-1]:
        return {}
    return {
        "sparse.starts": starts,
        "sparse.indices": np.concatenate(indices),
        "sparse.values": np.concatenate(values),
    }


def by_dimension(rows: Arrays) -> Iterator[tuple[str, Array]]:
    """The other arrays of the module for the first three; nothing for none."""
    if not rows:
        return
    indices, starts = rows["sparse.indices"], rows["sparse.starts"]
    order = np.argsort(indices, kind="stable")
    sorted_indices = indices[order]
    fresh = np.ones(len(indices), np.bool_)
    fresh[1:] = sorted_indices[1:] != sorted_indices[:-1]
    firsts = np.flatnonzero(fresh)
    yield "sparse.dimensions", sorted_indices[firsts]
    yield "sparse.list_starts", np.append(firsts, len(indices)).astype(np.int64)
    row_numbers = np.repeat(np.arange(len(starts) - 1, dtype=np.uint32), np.diff(starts))
    yield "sparse.positions", row_numbers[order]
    yield "sparse.weights", rows["sparse.values"][order]
