"""What one view knows of the buffer or of a sealed segment: which rows, and which of them live.

The rows themselves never change. A `SegmentView` pairs them with a mask of those alive and with
the figures that follow from it, so that a search has them at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.index.filters import Filter
from engine.index.graph import Graph
from engine.index.payloads import Mask
from engine.index.postings import WordRows
from engine.index.sealed import Sealed
from engine.index.sparse import SparseRows
from engine.index.storage import Kept
from engine.types import Point, Vector


class Rows(Protocol):
    """Rows by position: the buffer's, or a sealed segment's."""

    @property
    def count(self) -> int: ...
    @property
    def vectors(self) -> NDArray[Any]: ...
    @property
    def dense(self) -> Mask: ...
    @property
    def seqs(self) -> NDArray[np.int64]: ...
    @property
    def words(self) -> WordRows: ...
    @property
    def sparse(self) -> SparseRows | None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def token_bytes(self) -> int: ...
    def find(self, id: str, count: int) -> int: ...
    def id(self, position: int) -> str: ...
    def document(self, position: int) -> str: ...
    def point(self, position: int) -> Point: ...
    def named(self, position: int) -> Point: ...
    def kept(self, count: int) -> Kept: ...
    def passages(self, live: Mask) -> int: ...
    def mask(self, filter: Filter, count: int) -> Mask: ...
    def ids_after(self, id: str, count: int) -> Iterator[tuple[str, int]]: ...


@dataclass(frozen=True, slots=True)
class SegmentView:
    """The first `count` rows; never changes.

    `live` is a mask over them, `live_count` how many are set. `eligible` are the live rows with a
    vector, `eligible_count` how many. `texts` counts the live rows with words and `text_words` the
    words in them.
    """

    rows: Rows
    count: int
    live: Mask
    live_count: int
    eligible: Mask
    eligible_count: int
    texts: int
    text_words: int
    kept: Kept

    @classmethod
    def of(cls, rows: Rows, live: Mask) -> SegmentView:
        """Over the first len(`live`) rows."""
        count = len(live)
        dense = rows.dense[:count]
        eligible = live if dense.all() else live & dense
        lengths = rows.words.lengths(count)[live]
        return cls(
            rows=rows,
            count=count,
            live=live,
            live_count=int(np.count_nonzero(live)),
            eligible=eligible,
            eligible_count=int(np.count_nonzero(eligible)),
            texts=int(np.count_nonzero(lengths)),
            text_words=int(lengths.sum(dtype=np.int64)),
            kept=rows.kept(count),
        )

    def grown(self, count: int) -> SegmentView:
        """With the rows that were appended since, all alive."""
        return SegmentView.of(
            self.rows, np.concatenate([self.live, np.ones(count - self.count, np.bool_)])
        )

    def without(self, positions: Sequence[int]) -> SegmentView:
        """With these rows, which live, dead."""
        dead = np.array(positions, np.int64)
        live = self.live.copy()
        live[dead] = False
        same = self.eligible is self.live
        lengths = self.rows.words.lengths(self.count)[dead]
        eligible = live if same else self.eligible.copy()
        if not same:
            eligible[dead] = False
        return dataclasses.replace(
            self,
            live=live,
            live_count=self.live_count - len(dead),
            eligible=eligible,
            eligible_count=int(np.count_nonzero(eligible)),
            texts=self.texts - int(np.count_nonzero(lengths)),
            text_words=self.text_words - int(lengths.sum(dtype=np.int64)),
        )

    @property
    def sealed(self) -> Sealed | None:
        """The sealed segment, or None for a buffer."""
        return self.rows if isinstance(self.rows, Sealed) else None

    @property
    def graph(self) -> Graph | None:
        """The graph over its vectors, where it has one."""
        return self.rows.graph if isinstance(self.rows, Sealed) else None

    @property
    def vectors(self) -> NDArray[Any]:
        """The vectors that scores are of, shape (count, dimensions): float32 or float16."""
        return self.kept.precise.values

    @property
    def tombstones(self) -> int:
        """Rows kept that are no longer alive."""
        return self.count - self.live_count

    def find(self, id: str) -> int:
        """The position of a live point, or -1."""
        position = self.rows.find(id, self.count)
        return position if position >= 0 and self.live[position] else -1

    def matching(self, filter: Filter) -> Mask:
        """Live rows that satisfy a valid filter."""
        return self.rows.mask(filter, self.count) & self.live

    def ids_after(self, id: str, mask: Mask | None) -> Iterator[str]:
        """Ids of live points above `id`, in order; only those in the mask if there is one."""
        chosen = self.live if mask is None else mask
        for candidate, position in self.rows.ids_after(id, self.count):
            if chosen[position]:
                yield candidate

    def vector(self, position: int) -> Vector:
        """The vector of a row, float32, as scores are of it; zeros for a row without one."""
        row: Vector = self.vectors[position].astype(np.float32)
        return row

    def point(self, position: int, with_vector: bool = False) -> Point:
        """The point at a position; its vector, as prepared and kept, only if asked for. So is the
        sparse one, which points of buffers have anyway."""
        point = self.rows.point(position)
        if not with_vector:
            return point
        if self.rows.dense[position]:
            point = dataclasses.replace(point, vector=self.vector(position))
        sealed = self.sealed
        if sealed is not None and sealed.sparse is not None:
            point = dataclasses.replace(point, sparse_vector=sealed.sparse.rows.vector(position))
        return point
