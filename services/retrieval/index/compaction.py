"""Compaction on request: what it gave back, and that searches find as much as before.

The buffer is sealed, then segments are built anew beside the index. Only if recall over the living
rows stays do they take the others' place, all in one commit that other nodes follow.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from engine.errors import IndexUnavailable
from engine.index import view as views
from engine.index.collection import CollectionIndex
from engine.index.comparing import DEPTH, Comparison, compare, sample_queries
from engine.index.maintenance import Work
from engine.index.view import View
from services.objects.seam import ObjectStoreFailed
from services.retrieval.index.builder import BuildFailed
from services.retrieval.index.indexes import Indexes
from services.retrieval.index.joining import Joined
from services.retrieval.index.upkeep import Candidate, Upkeep
from services.rpc import metrics
from services.rpc.call import Call
from services.store.collections import Collection

T = TypeVar("T")

TURN_WAIT_MAX_S = 600.0
"""How long it waits for others who build for the collection."""

PAUSE_S = 0.2
"""Between two looks whether they still do."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RESIDENT = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a collection takes on this node.

    `disk_bytes` are the files of its present segments; `index_bytes` what of them and of buffers
    may be in memory; `resident_bytes` what the kernel says that the process has in memory, with
    all its collections.
    """

    segments: int
    disk_bytes: int
    index_bytes: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a compaction did. Where `rolled_back` says why not, nothing was swapped; the buffer is
    sealed all the same."""

    before: Figures
    after: Figures
    points: int
    tombstones_removed: int
    recall: Comparison
    rolled_back: str
    duration_s: float
    watermark: int


class Compactor:
    """Compacts the collections of this node; a second call joins the first. `upkeep` is its own:
    it must not share leases with the one that works by itself."""

    def __init__(self, indexes: Indexes, upkeep: Upkeep, threads: Executor) -> None:
        self._indexes = indexes
        self._upkeep = upkeep
        self._threads = threads
        self._joined: Joined[Receipt] = Joined("The compaction")

    async def close(self) -> None:
        """Ends what goes on; nothing of it was published."""
        await self._joined.close()

    async def compact(
        self, collection: Collection, *, full: bool, queries: int, call: Call
    ) -> Receipt:
        """Give tombstones back, comparing recall on so many queries; with `full` every segment is
        built anew. Raises DeadlineExceeded while it goes on, IndexUnavailable, BuildFailed."""

        async def work() -> Receipt:
            try:
                return await self._compact(collection, full, queries)
            except (IndexUnavailable, ObjectStoreFailed, OSError) as error:
                await self._index(collection)  # if it was deleted, that is why, and this says so
                if not isinstance(error, OSError):
                    raise
                raise _disk_refused(collection, error) from error

        return await self._joined.run(collection.uid, work, call)

    async def seal(self, collection: Collection) -> None:
        """Have all that is written by now sealed. Raises IndexUnavailable where it cannot be."""
        index = await self._index(collection)
        index.freeze()
        at, give_up_s = index.view.watermark, time.monotonic() + TURN_WAIT_MAX_S
        while index.sealed_seq < at and index.seal_work() is not None:
            seq = await self._upkeep.seal(collection, index, quiet=False)
            if seq is None:
                await _pause(collection, give_up_s)
            index = await self._index(collection, seq or 0)

    async def _compact(self, collection: Collection, full: bool, queries: int) -> Receipt:
        start_s = time.monotonic()
        index = await self._index(collection)
        before = await self._figures(collection, index.view)
        await self.seal(collection)
        give_up_s = time.monotonic() + TURN_WAIT_MAX_S
        while True:
            async with self._upkeep.lease(collection, "merge") as held:
                swapped = await self._swap(collection, full, queries) if held else None
            if swapped is not None:
                break
            await _pause(collection, give_up_s)
        index = await self._index(collection, swapped.seq)
        view = index.view
        after = await self._figures(collection, view)
        return Receipt(
            before=before,
            after=after,
            points=view.points,
            tombstones_removed=0 if swapped.refused else swapped.tombstones,
            recall=swapped.recall,
            rolled_back=swapped.refused,
            duration_s=time.monotonic() - start_s,
            watermark=view.watermark,
        )

    async def _swap(self, collection: Collection, full: bool, queries: int) -> _Swapped | None:
        """None where the log went another way meanwhile."""
        # What who had the lease before published is not to be built again.
        index = await self._index(collection, await self._upkeep.head_seq(collection))
        works, sealed_from = index.compaction(full=full), index.sealed_seq
        async with self._upkeep.scratch(collection) as scratch:
            try:
                made = [await self._upkeep.make(collection, index, work, scratch) for work in works]
            except BuildFailed:
                # A merge that was published once the lease had run out: its files went meanwhile.
                gone = {name for work in works for name in work.retired}.difference(index.segments)
                if not gone:
                    raise
                return None
            found = await self._compared(index, made, queries)
            tombstones = sum(source.tombstones for work in works for source in work.sources)
            if found.worse:
                metrics.COMPACTIONS_ROLLED_BACK.inc()
                for work in works:
                    _spare(index, work)
                return _Swapped(index.view.watermark, tombstones, found, _refusal(found))
            if not works:
                return _Swapped(index.view.watermark, 0, found, "")
            seq = await self._upkeep.publish(collection, made, sealed_from)
        return None if seq is None else _Swapped(seq, tombstones, found, "")

    async def _compared(
        self, index: CollectionIndex, made: Sequence[Candidate], queries: int
    ) -> Comparison:
        segments = await self._upkeep.opened(index, made)
        retired = [name for one in made for name in one.work.retired]
        view = index.view

        def work() -> Comparison:
            preview = index.preview(view, segments, retired)
            return compare(view, preview, sample_queries(view, queries))

        return await self._run(work)

    async def _figures(self, collection: Collection, view: View) -> Figures:
        def work() -> Figures:
            sizes = views.stats(view)
            return Figures(
                segments=sizes.segments,
                disk_bytes=self._upkeep.disk_bytes(collection, view),
                index_bytes=sizes.heap_bytes + sizes.mapped_bytes,
                resident_bytes=int(_RESIDENT.read_text("ascii").split()[1]) * _PAGE_BYTES,
            )

        return await self._run(work)

    async def _index(self, collection: Collection, min_seq: int = 0) -> CollectionIndex:
        """The collection's index, at a commit or later. Raises as `Indexes.view` does."""
        await self._indexes.view(collection, min_seq, Call(collection.tenant, "compaction"))
        index = self._indexes.index(collection)
        if index is None:
            raise IndexUnavailable(
                f"The index of {collection.id} was closed in this moment; call again.",
                retry_after_s=PAUSE_S,
            )
        return index

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


@dataclass(frozen=True, slots=True)
class _Swapped:
    seq: int
    tombstones: int
    recall: Comparison
    refused: str


def _spare(index: CollectionIndex, work: Work) -> None:
    """Not again by itself: it would be thrown away again."""
    if len(work.sources) == 1:
        index.spare(work)


def _refusal(found: Comparison) -> str:
    return (
        f"recall@{DEPTH} of {found.queries} queries would fall from {found.recall_before:.4f} to "
        f"{found.recall_after:.4f}. Raise hnsw.m, hnsw.ef_construction or hnsw.ef_search with "
        "UpdateCollection and compact again."
    )


def _disk_refused(collection: Collection, error: OSError) -> IndexUnavailable:
    return IndexUnavailable(
        f"Segments of {collection.id} could not be written: {error.strerror} ({error.filename}). "
        "Nothing was changed. Free some space and call again.",
        metadata={"path": str(error.filename), "problem": str(error.strerror)},
        retry_after_s=5.0,
    )


async def _pause(collection: Collection, give_up_s: float) -> None:
    if time.monotonic() >= give_up_s:
        raise IndexUnavailable(
            f"Others build segments of {collection.id}, or building fails, for "
            f"{TURN_WAIT_MAX_S:g} s by now; the nodes' logs say which. Call again later.",
            metadata={"waited_s": TURN_WAIT_MAX_S},
            retry_after_s=PAUSE_S,
        )
    await asyncio.sleep(PAUSE_S)
