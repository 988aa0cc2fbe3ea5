"""What an index reads: a whole collection, or what changed since a watermark.

Both read one unchanging view, up to that view's head. An index stands at the head once it has
applied every page of the feed, and nowhere in between: a row that was written twice is found under
its later number only, so half of a feed is no state that the collection ever had. A feed that
breaks off is started again from the old watermark; applying a page twice changes nothing.

A feed also has the segments that are current at its head, in the same view. What an index reads
beside them depends on what it has:
- nothing: `pages(after_seq=sealed_seq)`, whole, and `id_seqs()`, which of the segments' rows live;
- a state at watermark W, and segments adopted since: `id_seqs(after_seq=W)` for the rows that it
  finds in them, `pages(after_seq=max(W, sealed_seq))` for those that it does not, `tombstones()`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from psycopg.rows import class_row

from engine.errors import DataLoss
from engine.types import Point, Span
from services.store.codec import unpack_sentences, unpack_sparse, unpack_tokens, unpack_vector
from services.store.collections import VectorStorage
from services.store.points import Watermark
from services.store.segments import CURRENT, SegmentRow
from services.store.store import Row, Store, Tx

PAGE_ROWS = 1000
TOKEN_PAGE_ROWS = 100
"""Of rows with token vectors, which take about 100 KB each."""
ID_PAGE_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Head(Watermark):
    """Where the log of one collection stands. Live rows up to `sealed_seq` are in segments. An
    index at this commit compares vectors as `vector_storage` keeps them."""

    tenant: str
    collection_id: str
    collection_uid: uuid.UUID
    floor: int
    sealed_seq: int
    vector_storage: VectorStorage
    token_store: bool


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point as the table and its passage have it. `span` is set for passages."""

    point: Point
    seq: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class Changes:
    """A page. An id is in one page of a feed only, and either written or deleted."""

    upserts: tuple[StoredPoint, ...]
    deletes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdSeqs:
    """A page of which rows there are: ids, and the numbers they were last written with, int64."""

    ids: tuple[str, ...]
    seqs: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The index cannot go on from where it stands and has to read the whole collection."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The collection does not exist any more."""


class Feed:
    """An open reading of one collection, at most once through. `head` is where it leads, and
    `segments` are those that are current there."""

    def __init__(
        self, tx: Tx, head: Head, segments: tuple[SegmentRow, ...], after_seq: int | None
    ) -> None:
        self.head = head
        self.segments = segments
        self._tx = tx
        self._after_seq = after_seq

    @property
    def sealed_seq(self) -> int:
        """Every live row with a number up to this one is in exactly one of `segments`."""
        return self.head.sealed_seq

    async def pages(
        self, rows_max: int | None = None, *, after_seq: int | None = None
    ) -> AsyncIterator[Changes]:
        """First what was written, by number, then what was deleted since the watermark.

        With `after_seq` what was written later than that, and no deletes.
        """
        params = self._params(after_seq)
        if rows_max is None:
            rows_max = TOKEN_PAGE_ROWS if self.head.token_store else PAGE_ROWS
        async for rows in _chunks(self._tx, _POINTS, params, rows_max):
            yield Changes(tuple(stored_point(row) for row in rows), ())
        if after_seq is None and self._after_seq is not None:
            async for ids in self.tombstones(rows_max):
                yield Changes((), ids)

    async def tombstones(
        self, rows_max: int = PAGE_ROWS, *, after_seq: int | None = None
    ) -> AsyncIterator[tuple[str, ...]]:
        """Ids that were deleted after the watermark, or after `after_seq`, and not written since.

        Complete only for numbers from the head's `floor` on.
        """
        async for rows in _chunks(self._tx, _TOMBSTONES, self._params(after_seq), rows_max):
            yield tuple(row[0] for row in rows)

    async def id_seqs(
        self, rows_max: int = ID_PAGE_ROWS, *, after_seq: int | None = None
    ) -> AsyncIterator[IdSeqs]:
        """Every live row written after the watermark, or after `after_seq`, by number. No vector
        and no text is read."""
        async for rows in _chunks(self._tx, _ID_SEQS, self._params(after_seq), rows_max):
            ids, seqs = zip(*rows, strict=True)
            yield IdSeqs(ids, np.array(seqs, np.int64))

    def _params(self, after_seq: int | None) -> dict[str, Any]:
        after = self._after_seq if after_seq is None else after_seq
        return {
            "tenant": self.head.tenant,
            "uid": self.head.collection_uid,
            "after": -1 if after is None else after,
        }


Reading: TypeAlias = Feed | Rebuild | Gone

_HEAD = (
    "SELECT h.seq, h.change_id, h.tenant, c.id AS collection_id, h.collection_uid, h.floor, "
    "h.sealed_seq, c.vector_storage, c.token_store "
    "FROM heads h JOIN collections c ON c.tenant = h.tenant AND c.uid = h.collection_uid"
)
POINT_COLUMNS = (
    "p.id, p.seq, coalesce(p.vector, s.vector), coalesce(s.text, p.text), p.payload, "
    "coalesce(p.sentences, s.sentences), p.document, p.passage_index, s.span_start, s.span_end, "
    "p.passage_set_key IS NOT NULL, coalesce(p.token_vectors, s.token_vectors), "
    "p.sparse_vector"
)
"""What `stored_point` reads, of POINT_ROWS. What a passage's point has of its own, which is made of
the passage with another model, comes before what the passage has."""

POINT_ROWS = """points p LEFT JOIN passages s ON s.tenant = p.tenant
    AND s.passage_set_key = p.passage_set_key AND s.passage_index = p.passage_index"""
_POINTS = f"""
SELECT {POINT_COLUMNS} FROM {POINT_ROWS}
WHERE p.tenant = %(tenant)s AND p.collection_uid = %(uid)s AND p.seq > %(after)s AND p.seq > 0
ORDER BY p.seq
"""
_TOMBSTONES = (
    "SELECT id FROM tombstones WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
    "AND seq > %(after)s AND seq > 0 ORDER BY seq"
)
_ID_SEQS = (
    "SELECT id, seq FROM points WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
    "AND seq > %(after)s AND seq > 0 ORDER BY seq"
)


async def heads(tx: Tx) -> list[Head]:
    """Of every collection that the transaction sees."""
    return await tx.all(Head, _HEAD)


async def heads_of(tx: Tx, uids: Sequence[uuid.UUID]) -> list[Head]:
    """Of these collections, as far as they exist."""
    return await tx.all(Head, f"{_HEAD} WHERE h.collection_uid = ANY(%s)", (list(uids),))


async def heads_since(tx: Tx, seen: Mapping[uuid.UUID, int]) -> list[Head]:
    """The heads of collections that are new or have moved beyond `seen`: their numbers by uid."""
    return [head for head in await heads(tx) if seen.get(head.collection_uid) != head.seq]


async def get_head(tx: Tx, tenant: str, collection_uid: uuid.UUID) -> Head | None:
    """None where the collection does not exist."""
    return await tx.one(
        Head,
        f"{_HEAD} WHERE h.tenant = %s AND h.collection_uid = %s",
        (tenant, collection_uid),
    )


async def verify(tx: Tx, head: Head, at: Watermark) -> Rebuild | None:
    """None where an index that stands at `at` may go on; otherwise why it may not.

    Call it on every attach and reconnect, in the view that `head` was read in.
    """
    if at.seq < head.floor:
        return Rebuild(f"the log is trimmed below {head.floor} and the index stands at {at.seq}")
    found = await tx.row(
        "SELECT 1 FROM commits WHERE tenant = %s AND collection_uid = %s AND seq = %s "
        "AND change_id = %s",
        (head.tenant, head.collection_uid, at.seq, at.change_id),
    )
    if found is None:
        return Rebuild(
            f"commit {at.seq} is not the one that the index applied: the database was restored "
            "or has failed over"
        )
    return None


@contextlib.asynccontextmanager
async def snapshot_scan(
    store: Store, tenant: str, collection_uid: uuid.UUID
) -> AsyncIterator[Feed | Gone]:
    """The whole collection as it is now."""
    async with store.snapshot() as tx:
        head, segments = await _open(tx, tenant, collection_uid)
        yield Gone() if head is None else Feed(tx, head, segments, None)


@contextlib.asynccontextmanager
async def read_changes(
    store: Store, tenant: str, collection_uid: uuid.UUID, after: Watermark
) -> AsyncIterator[Reading]:
    """What changed since `after`, verified in the same view."""
    async with store.snapshot() as tx:
        head, segments = await _open(tx, tenant, collection_uid)
        if head is None:
            yield Gone()
            return
        broken = await verify(tx, head, after)
        yield Feed(tx, head, segments, after.seq) if broken is None else broken


async def _open(
    tx: Tx, tenant: str, collection_uid: uuid.UUID
) -> tuple[Head | None, tuple[SegmentRow, ...]]:
    async with (
        tx.connection.pipeline(),
        tx.connection.cursor(binary=True, row_factory=class_row(SegmentRow)) as segments,
    ):
        await segments.execute(CURRENT.encode(), {"tenant": tenant, "uid": collection_uid})
        # Without statistics, which a young table lacks, PostgreSQL would read the whole collection
        # and sort it to find one changed row. The index has the rows in this order.
        await tx.run("SET LOCAL enable_sort = off")
        head = await get_head(tx, tenant, collection_uid)
        return head, tuple(await segments.fetchall())


async def _chunks(
    tx: Tx, query: str, params: Mapping[str, Any], rows_max: int
) -> AsyncIterator[list[Row]]:
    # Mostly a few rows changed, and one statement has them all; a cursor takes three.
    first = await tx.rows(f"{query} LIMIT %(limit)s", {**params, "limit": rows_max})
    if len(first) < rows_max:
        if first:
            yield first
        return
    async with tx.connection.cursor(name="feed") as cursor:
        await cursor.execute(query.encode(), params, binary=True)
        while rows := await cursor.fetchmany(rows_max):
            yield rows


def stored_point(row: Row) -> StoredPoint:
    """A row of POINT_COLUMNS; what comes after them is left alone."""
    point_id, seq, vector, text, payload, sentences, document, index, start, end, passage = row[:11]
    if passage and start is None:
        raise DataLoss(
            f"point {point_id!r} names a passage that is not stored", metadata={"id": point_id}
        )
    point = Point(
        id=point_id,
        vector=unpack_vector(vector),
        text=text,
        payload=payload,
        sentences=unpack_sentences(sentences),
        document=document or "",
        passage_index=index,
        token_vectors=unpack_tokens(row[11]),
        sparse_vector=unpack_sparse(row[12]),
    )
    return StoredPoint(point, seq, None if start is None else Span(start, end))
