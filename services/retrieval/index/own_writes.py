"""Commits of this node itself, which its index takes over without reading them back.

A commit is the whole of what changed between it and the one before, so an index that stands right
before it may apply what the node has in its hands. Whatever is missing, be it another node's or
late, comes from the log as ever; and so does everything where the database was restored and the
commit before is another of the same number.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from engine.types import Matrix, Point
from services.store.points import Commit, PointRow

ROWS_MAX = 50_000
"""Rows that wait for an index at most. Beyond, it reads the log."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Points as an index takes them, their vectors beside them and as they are compared."""

    points: Sequence[Point]
    vectors: Matrix

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True)
class OwnWrite:
    """One commit, `after` the one with that random id. Deletes name points that no later commit can
    have written."""

    seq: int
    change_id: uuid.UUID
    after: uuid.UUID
    upserts: Sequence[PointRow] | Prepared
    deletes: tuple[str, ...]


def own_write(
    commit: Commit, rows: Sequence[PointRow] | Prepared, deletes: Sequence[str]
) -> OwnWrite:
    """A commit with the rows that were written by it."""
    return OwnWrite(
        commit.seq,
        commit.change_id,
        commit.after,
        rows,
        tuple(deletes),
    )


def point_of(row: PointRow) -> Point:
    """A row as an index takes it; as the log would give it back."""
    return Point(
        row.id,
        row.vector,
        row.text,
        row.payload,
        row.sentences,
        token_vectors=row.token_vectors,
        sparse_vector=row.sparse_vector,
    )


class OwnWrites:
    """Those that an index has not applied yet, by number."""

    __slots__ = ("_rows", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, OwnWrite] = {}
        self._rows = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, write: OwnWrite) -> None:
        """Keeps it, unless there are too many."""
        size = len(write.upserts) + len(write.deletes)
        if self._rows + size <= ROWS_MAX:
            self._drop(write.seq)
            self._waiting[write.seq] = write
            self._rows += size

    def take(self, seq: int, after: uuid.UUID | None) -> OwnWrite | None:
        """The one of this number that follows the commit `after`; those before it are forgotten."""
        for earlier in [number for number in self._waiting if number < seq]:
            self._drop(earlier)
        write = self._drop(seq)
        return write if write is not None and write.after == after else None

    def _drop(self, seq: int) -> OwnWrite | None:
        write = self._waiting.pop(seq, None)
        if write is not None:
            self._rows -= len(write.upserts) + len(write.deletes)
        return write
