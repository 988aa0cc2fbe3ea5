"""The indexes of this node: each follows its collection's log in PostgreSQL.

What is true:
- An index is a function of the log: bootstrapped from one snapshot, then moved from commit to
  commit, and replaced by a new one when the log under it is another (restored, failed over,
  trimmed), found by the pair of commit number and random change id.
- Searches read an immutable view and never wait for a writer; only a caller who asks for a
  watermark waits for the index to come that far.
- PostgreSQL may be away: searches go on with what is there, and the log is followed again when it
  is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import TypeVar

from engine.errors import (
    Cancelled,
    CollectionNotFound,
    RagmeshError,
)
from engine.index import view as views
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.exact import Metric
from engine.index.hnsw import GraphSettings
from engine.index.view import View
from engine.types import Point
from services.retrieval.followed import RETRY_S, Followed, not_built, not_reached
from services.rpc import metrics
from services.rpc.call import Call
from services.store import changes
from services.store import collections as rows
from services.store.changes import Changes, Feed, Gone, Head, Rebuild
from services.store.collections import Collection
from services.store.points import Watermark
from services.store.store import Store

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

POLL_S = 0.1
"""How often the log is looked at where nobody nudges: the most that another node's write stays
unseen, beside the time to apply it."""

REFRESH_S = 2.0
"""How often the collections' own rows are read again."""

WATERMARK_WAIT_MAX_S = 30.0
"""How long a call without a deadline waits for a watermark."""

QUIET_S = 1.0
"""How long nobody may have written before segments are merged more than they must."""

CATCH_UPS_MAX = 4
"""Collections that are read from PostgreSQL at once."""


class Indexes:
    """All collections of all tenants."""

    def __init__(self, store: Store, threads: Executor) -> None:
        self._store = store
        self._threads = threads
        self._followed: dict[uuid.UUID, Followed] = {}
        self._names: dict[tuple[str, str], Collection] = {}
        self._nudged = asyncio.Event()
        self._refresh_due_s = 0.0
        self._slots = asyncio.Semaphore(CATCH_UPS_MAX)
        self._building = asyncio.Semaphore(1)
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads which collections there are, and follows them from now on."""
        await self._look()
        self._task = asyncio.create_task(self._follow(), name="indexes")

    async def close(self) -> None:
        """Stops following; indexes are left as they are."""
        self._stopping = True
        tasks = [t for f in self._followed.values() for t in (f.work, f.upkeep) if t is not None]
        if self._task is not None:
            tasks.append(self._task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nudge(self, *, changed: bool = False) -> None:
        """Says that the log has moved, or with `changed` that a collection's settings have."""
        if changed:
            self._refresh_due_s = 0.0
        self._nudged.set()

    def forget(self, collection: Collection) -> None:
        """Drops a deleted collection at once."""
        self._names.pop((collection.tenant, collection.id), None)
        followed = self._followed.pop(collection.uid, None)
        if followed is not None:
            for task in (followed.work, followed.upkeep):
                if task is not None:
                    task.cancel()
            followed.error = rows.collection_not_found(collection.id)
            followed.notify()

    async def collection(self, tenant: str, collection_id: str, call: Call) -> Collection:
        """A collection by name: from memory where it is known, so that a search does not need
        PostgreSQL. Raises CollectionNotFound or StoreUnavailable."""
        known = self._names.get((tenant, collection_id))
        if known is not None:
            return known
        async with self._store.transaction(tenant, timeout_s=call.remaining_s()) as tx:
            found = await rows.get_collection(tx, collection_id)
        self._names[(tenant, collection_id)] = found
        return found

    def remembered(self, tenant: str, collection_id: str) -> Collection | None:
        """A collection by name if it is in memory."""
        return self._names.get((tenant, collection_id))

    async def is_another(self, known: Collection, call: Call) -> bool:
        """Whether PostgreSQL has another collection under the name of one that was remembered; it
        is remembered from now on. Raises CollectionNotFound or StoreUnavailable."""
        if self._names.get((known.tenant, known.id)) is known:
            del self._names[(known.tenant, known.id)]
        return (await self.collection(known.tenant, known.id, call)).uid != known.uid

    def lag_commits(self, collection: Collection) -> int:
        """Commits that the log had at the last look and the index has not."""
        followed = self._followed.get(collection.uid)
        if followed is None or followed.index is None:
            return 0
        return max(0, followed.head_seq - followed.index.view.watermark)

    async def view(self, collection: Collection, min_seq: int, call: Call) -> View:
        """The index's present state, at commit `min_seq` or later.

        Waits until it is built and has come that far. Raises DeadlineExceeded, CollectionNotFound,
        or what kept the latest try from building it, if that try ended while this call waited: an
        error from before may be over.
        """
        followed = self._followed.get(collection.uid)
        if followed is not None and followed.index is not None:
            view = followed.index.view
            if view.watermark >= min_seq:
                return view
        remaining_s = call.remaining_s()
        give_up_s = time.monotonic() + (
            WATERMARK_WAIT_MAX_S if remaining_s is None else remaining_s
        )
        while True:
            followed = self._followed.get(collection.uid) or self._begin(collection)
            moved = followed.moved
            if followed.index is not None and followed.index.view.watermark >= min_seq:
                return followed.index.view
            self.nudge()
            try:
                async with asyncio.timeout_at(
                    asyncio.get_running_loop().time() + give_up_s - time.monotonic()
                ):
                    await moved.wait()
            except TimeoutError as error:
                raise not_reached(followed, min_seq) from error
            # Forgotten: who looks it up again finds nothing, or one that begins anew.
            gone = isinstance(followed.error, CollectionNotFound)
            if followed.error is not None and (gone or followed.index is None):
                raise followed.error

    def _begin(self, collection: Collection) -> Followed:
        followed = self._followed[collection.uid] = Followed(collection)
        return followed

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                await self._look()
            except RagmeshError as error:
                _LOG.warning("the log cannot be read now: %s", error.message)
                for followed in self._followed.values():
                    if followed.index is None:
                        followed.error = error
                        followed.notify()
                await asyncio.sleep(POLL_S)
            except Exception:
                # Whatever it was, without this task the node would serve an old state for good.
                _LOG.exception("the log cannot be followed now")
                await asyncio.sleep(REFRESH_S)

    async def _look(self) -> None:
        """Compares every index with its log, and sets to work those that are behind."""
        async with self._store.system() as tx:
            heads = {h.collection_uid: h for h in await changes.heads(tx)}
            if heads.keys() != self._followed.keys() or time.monotonic() >= self._refresh_due_s:
                found = await rows.all_collections(tx)
                self._take_rows(found)
                self._refresh_due_s = time.monotonic() + REFRESH_S
        for head in heads.values():
            followed = self._followed.get(head.collection_uid)
            if followed is not None:
                self._compare(followed, head)
        self._observe()

    def _take_rows(self, found: list[Collection]) -> None:
        self._names = {(row.tenant, row.id): row for row in found}
        by_uid = {row.uid: row for row in found}
        for uid in self._followed.keys() - by_uid.keys():
            self.forget(self._followed[uid].collection)
        for uid, row in by_uid.items():
            followed = self._followed.get(uid)
            if followed is None:
                self._begin(row)
            else:
                followed.collection = row

    def _compare(self, followed: Followed, head: Head) -> None:
        followed.head_seq = head.seq
        if followed.work is not None and not followed.work.done():
            return
        index = followed.index
        at_head = (
            index is not None
            and index.view.watermark == head.seq
            and followed.change_id == head.change_id
        )
        settled = index is not None and index.settings == _settings(followed.collection)
        if at_head and settled:
            quiet = time.monotonic() - followed.moved_s >= QUIET_S
            if quiet and not followed.settled:
                followed.settled = True
                self._keep_up(followed, quiet=True)
        else:
            followed.work = asyncio.create_task(
                self._catch_up(followed, rebuild=not settled), name=f"index {head.collection_id}"
            )

    async def _catch_up(self, followed: Followed, *, rebuild: bool) -> None:
        async with self._slots:
            try:
                if rebuild or followed.index is None:
                    await self._rebuild(followed)
                else:
                    await self._advance(followed, followed.index)
                followed.error = None
                followed.notify()
            except RagmeshError as error:
                await self._failed(followed, error, POLL_S)
            except Exception:
                _LOG.exception("index of %s failed", followed.collection.id)
                await self._failed(followed, not_built(followed), RETRY_S)
        self._keep_up(followed)

    async def _failed(self, followed: Followed, error: RagmeshError, pause_s: float) -> None:
        _LOG.warning("index of %s is not up to date: %s", followed.collection.id, error.message)
        followed.error = error
        followed.notify()
        await asyncio.sleep(pause_s)

    async def _advance(self, followed: Followed, index: CollectionIndex) -> None:
        at = Watermark(index.view.watermark, followed.change_id or uuid.UUID(int=0))
        collection = followed.collection
        async with changes.read_changes(
            self._store, collection.tenant, collection.uid, at
        ) as reading:
            if isinstance(reading, Feed):
                upserts, deletes = await _gather(reading)
                head = reading.head
                await self._in_thread(index.apply, upserts, deletes, head.seq, str(head.change_id))
                followed.change_id = head.change_id
                return
        if isinstance(reading, Gone):
            self.forget(collection)
        elif isinstance(reading, Rebuild):
            _LOG.warning("index of %s is rebuilt: %s", collection.id, reading.reason)
            metrics.INDEX_REBUILDS.inc()
            await self._rebuild(followed)

    async def _rebuild(self, followed: Followed) -> None:
        """Builds a new index beside the old one and swaps it in."""
        collection = followed.collection
        index = CollectionIndex(_settings(collection))
        async with changes.snapshot_scan(self._store, collection.tenant, collection.uid) as reading:
            if isinstance(reading, Gone):
                self.forget(collection)
                return
            upserts, _ = await _gather(reading)
            head = reading.head
        await self._in_thread(
            lambda: index.bulk_load(
                upserts, head.seq, str(head.change_id), stop=lambda: self._stopping
            )
        )
        followed.index, followed.change_id = index, head.change_id

    def _keep_up(self, followed: Followed, *, quiet: bool = False) -> None:
        """Builds the graphs that are due, one at a time in this process."""
        if followed.index is None or (followed.upkeep and not followed.upkeep.done()):
            followed.settled = False
            return
        followed.upkeep = asyncio.create_task(
            self._maintain(followed.index, quiet), name=f"segments {followed.collection.id}"
        )

    async def _maintain(self, index: CollectionIndex, quiet: bool) -> None:
        while (work := index.pending_work(quiet=quiet)) is not None:
            try:
                async with self._building:
                    built = await self._in_thread(
                        lambda work=work: work.build(threads=1, stop=lambda: self._stopping)
                    )
                index.install(built)
            except BaseException as error:
                index.abandon(work)
                if not isinstance(error, Cancelled):
                    raise
                return

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)

    def _observe(self) -> None:
        stats = [views.stats(f.index.view) for f in self._followed.values() if f.index is not None]
        metrics.INDEX_POINTS.set(sum(s.points for s in stats))
        metrics.INDEX_TOMBSTONES.set(sum(s.tombstones for s in stats))
        metrics.INDEX_MEMORY_BYTES.set(sum(s.bytes for s in stats))
        lags = [self.lag_commits(f.collection) for f in self._followed.values()]
        metrics.INDEX_LAG_COMMITS.set(max(lags, default=0))


async def _gather(feed: Feed) -> tuple[list[Point], list[str]]:
    """Everything that a feed holds: an index stands at a commit only once all of it is applied."""
    upserts: list[Point] = []
    deletes: list[str] = []
    page: Changes
    async for page in feed.pages():
        upserts += [
            p.point if p.span is None else replace(p.point, span=p.span) for p in page.upserts
        ]
        deletes += page.deletes
    return upserts, deletes


def _settings(collection: Collection) -> IndexSettings:
    return IndexSettings(
        dimensions=collection.dimensions,
        metric=Metric(collection.metric),
        language=collection.language,
        graph=GraphSettings(
            m=collection.hnsw_m,
            ef_construction=collection.hnsw_ef_construction,
            ef_search=collection.hnsw_ef_search,
        ),
    )
