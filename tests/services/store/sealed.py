"""Segments as the tests of the store simulate them: a file is a set of rows.

A row is a point's id and the number that it was written with.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.store.changes import Feed, snapshot_scan
from services.store.collections import Collection
from services.store.points import Watermark, apply_batch
from services.store.segments import NewSegment, Published, Reason, SegmentRow, publish
from services.store.store import Store
from tests.services.store.stored import point

Rows = frozenset[tuple[str, int]]


@dataclass(slots=True)
class Files:
    """An object store in memory."""

    files: dict[str, Rows] = field(default_factory=dict)

    def put(self, rows: Rows, reason: Reason = "seal") -> NewSegment:
        digest = hashlib.sha256(repr(sorted(rows)).encode()).digest()
        self.files[digest.hex()] = rows
        return NewSegment(digest, len(rows), 100 + len(rows), reason)

    async def exists(self, name: str) -> bool:
        return name in self.files

    def rows(self, segments: Sequence[SegmentRow]) -> list[tuple[str, int]]:
        return [row for segment in segments for row in self.files[segment.name]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one reading of a collection showed."""

    head: Watermark
    sealed_seq: int
    segments: tuple[SegmentRow, ...]
    live: Rows
    late: Rows


async def look(store: Store, collection: Collection) -> Seen:
    async with snapshot_scan(store, collection.tenant, collection.uid) as feed:
        assert isinstance(feed, Feed)
        live = {
            row
            async for page in feed.id_seqs(rows_max=7)
            for row in zip(page.ids, page.seqs.tolist(), strict=True)
        }
        pages = feed.pages(rows_max=5, after_seq=feed.sealed_seq)
        late = {(p.point.id, p.seq) async for page in pages for p in page.upserts}
        head = Watermark(feed.head.seq, feed.head.change_id)
        return Seen(head, feed.sealed_seq, feed.segments, frozenset(live), frozenset(late))


async def write(
    store: Store, collection: Collection, ids: Sequence[str], deletes: Sequence[str] = ()
) -> int:
    async with store.transaction(collection.tenant) as tx:
        return (await apply_batch(tx, collection, [point(i) for i in ids], deletes)).seq


async def say(
    store: Store,
    collection: Collection,
    files: Files,
    added: Sequence[NewSegment],
    retired: Sequence[bytes] = (),
    *,
    sealed: tuple[int, int],
) -> Published:
    async with store.transaction(collection.tenant) as tx:
        return await publish(
            tx,
            collection,
            added,
            retired,
            sealed_from=sealed[0],
            sealed_seq=sealed[1],
            exists=files.exists,
        )


async def seal(store: Store, collection: Collection, files: Files) -> Published:
    seen = await look(store, collection)
    added = [files.put(seen.late)] if seen.late else []
    await asyncio.sleep(0.003)  # so that others come between
    return await say(store, collection, files, added, sealed=(seen.sealed_seq, seen.head.seq))


async def merge(store: Store, collection: Collection, files: Files, count: int) -> Published:
    seen = await look(store, collection)
    old = seen.segments[:count]
    added = [files.put(seen.live.intersection(files.rows(old)), "merge")] if old else []
    await asyncio.sleep(0.003)
    names = [segment.sha256 for segment in old]
    sealed = (seen.sealed_seq, seen.sealed_seq)
    return await say(store, collection, files, added, names, sealed=sealed)


def check_cover(seen: Seen, files: Files) -> None:
    """Every live row is in one place: one segment, or what is read from the log."""
    sealed = files.rows(seen.segments)
    for row in seen.live:
        assert sealed.count(row) == (row[1] <= seen.sealed_seq), row
    assert seen.late == {row for row in seen.live if row[1] > seen.sealed_seq}
