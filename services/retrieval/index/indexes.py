"""The indexes of this node: each follows its collection's log in PostgreSQL.

What is true:
- An index is a function of the log: loaded once, then moved from commit to commit, and loaded anew
  when the log under it is another (restored, failed over, trimmed), found by the pair of commit
  number and random change id. Its segments are part of the log, so equal watermarks mean equal
  segments on every node.
- Searches read an immutable view and never wait for a writer; only a caller who asks for a
  watermark waits for the index to come that far.
- A collection is opened when it is first used, and closed when it was not used for longest and too
  many are open. One that nobody uses costs nothing.
- PostgreSQL may be away: searches go on with what is there, and the log is followed again when it
  is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from redis.asyncio import Redis

from engine.errors import CollectionNotFound, RagmeshError
from engine.index import view as views
from engine.index.collection import CollectionIndex
from engine.index.view import View
from services.ending import ended
from services.retrieval.index.catching import Catcher
from services.retrieval.index.followed import Followed, not_reached
from services.retrieval.index.loading import Loader
from services.retrieval.index.own_writes import OwnWrite
from services.retrieval.index.standing import Standing
from services.retrieval.index.tending import Tender
from services.retrieval.index.upkeep import Upkeep
from services.rpc import metrics
from services.rpc.call import Call
from services.store import changes
from services.store import collections as rows
from services.store.changes import Head
from services.store.collections import Collection
from services.store.store import Store

_LOG = logging.getLogger(__name__)

POLL_S = 0.1
"""How often the log is looked at where nobody nudges: the most that another node's write stays
unseen, beside the time to apply it."""

HEARING_POLL_S = 0.5
"""The same while Redis tells of other nodes' writes: a look takes milliseconds."""

REFRESH_S = 2.0
"""How often the collections' own rows are read again."""

WATERMARK_WAIT_MAX_S = 30.0
"""How long a call without a deadline waits for a watermark."""


class Indexes:
    """The open collections of all tenants. `open_max` bounds how many."""

    def __init__(
        self,
        store: Store,
        loader: Loader,
        upkeep: Upkeep,
        redis: Redis | None,
        node_id: str,
        *,
        open_max: int,
    ) -> None:
        self._store = store
        self._loader = loader
        self._open_max = open_max
        self._standing = Standing(redis, node_id, self._heard)
        self._followed: dict[uuid.UUID, Followed] = {}
        self._names: dict[tuple[str, str], Collection] = {}
        self._nudged = asyncio.Event()
        self._tender = Tender(loader, upkeep, self._nudged.set)
        self._refresh_due_s = 0.0
        self._forgotten = 0
        self._catcher = Catcher(
            loader, self._standing, self.forget, lambda: self.nudge(changed=True)
        )
        self._task: asyncio.Task[None] | None = None
        self.memory_bytes = 0

    async def start(self) -> None:
        """Opens what this node had open in its last life, and follows the log from now on."""
        async with self._store.system() as tx:
            known = {row.uid: row for row in await rows.all_collections(tx)}
        for uid in await self._loader.remembered(known.keys()):
            if len(self._followed) < self._open_max:
                self._names[(known[uid].tenant, known[uid].id)] = known[uid]
                self._open(known[uid])
        await self._look()
        await self._standing.start()
        self._task = asyncio.create_task(self._follow(), name="indexes")

    async def close(self) -> None:
        """Stops following; what is open is remembered for the next life."""
        tasks = [task for followed in self._followed.values() for task in followed.tasks()]
        if self._task is not None:
            tasks.append(self._task)
        await ended(tasks)
        await self._standing.close()
        for followed in self._followed.values():
            await self._tender.remember(followed)

    def nudge(self, collection: Collection | None = None, *, changed: bool = False) -> None:
        """Says that this node moved the log of a collection, or with `changed` its settings."""
        if collection is not None:
            self._standing.wrote(collection.uid)
            if collection.uid not in self._followed:
                self._open(collection)
        if changed:
            self._refresh_due_s = 0.0
        self._nudged.set()

    async def lagging(self, collection: Collection, seq: int, call: Call) -> list[str]:
        """Other nodes that have the collection open and did not come to commit `seq` in time."""
        remaining_s = call.remaining_s()
        wait_s = WATERMARK_WAIT_MAX_S if remaining_s is None else 0.9 * remaining_s
        return await self._standing.behind(collection.uid, seq, time.monotonic() + wait_s)

    def _heard(self, uid: uuid.UUID) -> None:
        if uid in self._followed:
            self._nudged.set()

    @contextlib.contextmanager
    def writing(self, collection: Collection) -> Iterator[None]:
        """While this node writes to a collection."""
        followed = self._followed.get(collection.uid) or self._open(collection)
        followed.writing += 1
        try:
            yield
        finally:
            followed.writing -= 1

    def wrote(self, collection: Collection, write: OwnWrite | None) -> None:
        """Says that this node moved a collection's log, and by what, where that is known."""
        self._standing.wrote(collection.uid)
        followed = self._followed.get(collection.uid) or self._open(collection)
        if write is None or followed.index is None:
            self._nudged.set()
            return
        followed.own.add(write)
        followed.head_seq = max(followed.head_seq, write.seq)
        if followed.work is None or followed.work.done():
            self._work(followed)

    def keep_open(self, collection: Collection) -> None:
        """Has an index open, and not the first to be closed for want of room."""
        followed = self._followed.get(collection.uid)
        if followed is None:
            self._open(collection)
            self._nudged.set()
        else:
            followed.used_s = time.monotonic()

    def exchanged(self, collection: Collection) -> None:
        """Says that the name of a collection leads to another index by now."""
        self._forget_name(collection)
        self.nudge(changed=True)

    def _forget_name(self, collection: Collection) -> None:
        self._names.pop((collection.tenant, collection.id), None)
        self._forgotten += 1

    def forget(self, collection: Collection) -> None:
        """Drops a deleted collection at once."""
        self._names.pop((collection.tenant, collection.id), None)
        followed = self._followed.pop(collection.uid, None)
        if followed is not None:
            for task in followed.tasks():
                task.cancel()
            followed.error = rows.collection_not_found(collection.id)
            followed.notify()
        self._loader.drop(collection)

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
        remembered = self._names.get((known.tenant, known.id))
        if remembered is not None and remembered.uid == known.uid:
            self._forget_name(known)
        return (await self.collection(known.tenant, known.id, call)).uid != known.uid

    def lag_commits(self, collection: Collection) -> int:
        """Commits that the log had at the last look and the index has not."""
        followed = self._followed.get(collection.uid)
        if followed is None or followed.index is None:
            return 0
        return max(0, followed.head_seq - followed.index.view.watermark)

    async def view(self, collection: Collection, min_seq: int, call: Call) -> View:
        """The index's present state, at commit `min_seq` or later.

        Waits until it is loaded and has come that far. Raises DeadlineExceeded, CollectionNotFound,
        or what kept the latest try from loading it, if that try ended while this call waited: an
        error from before may be over.
        """
        followed = self._followed.get(collection.uid)
        if followed is not None and followed.index is not None:
            followed.used_s = time.monotonic()
            view = followed.index.view
            if view.watermark >= min_seq:
                return view
        remaining_s = call.remaining_s()
        give_up_s = time.monotonic() + (
            WATERMARK_WAIT_MAX_S if remaining_s is None else remaining_s
        )
        while True:
            followed = self._followed.get(collection.uid) or self._open(collection)
            if followed.index is not None and followed.index.view.watermark >= min_seq:
                return followed.index.view
            if followed.collection.hidden and not collection.hidden:
                await self._require_named(followed, collection)
            self.nudge()
            if not await followed.moves(give_up_s):
                raise not_reached(followed, min_seq)
            # Forgotten: who looks it up again finds nothing, or one that begins anew.
            gone = isinstance(followed.error, CollectionNotFound)
            if followed.error is not None and (gone or followed.index is None):
                raise followed.error

    def index(self, collection: Collection) -> CollectionIndex | None:
        """The open index, for those who build its segments; None while it is not loaded."""
        followed = self._followed.get(collection.uid)
        return None if followed is None else followed.index

    def _open(self, collection: Collection) -> Followed:
        followed = self._followed[collection.uid] = Followed(collection)
        return followed

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARING_POLL_S if self._standing.hears else POLL_S):
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
        """Compares every open index with its log, and sets to work those that are behind."""
        refresh = time.monotonic() >= self._refresh_due_s
        asked = dict(self._followed)
        forgotten = self._forgotten
        async with self._store.system() as tx:
            heads = {head.collection_uid: head for head in await changes.heads_of(tx, list(asked))}
            if refresh:
                uids = {*asked, *(row.uid for row in self._names.values())}
                present = {row.uid: row for row in await rows.collections_of(tx, list(uids))}
        # Rows that were read before a name was forgotten may be what it was forgotten for.
        if refresh and forgotten == self._forgotten:
            self._refresh_due_s = time.monotonic() + REFRESH_S
            self._take_rows(uids, present)
            await self._close_unused()
            self._observe()
        for uid, followed in asked.items():
            if self._followed.get(uid) is not followed:
                continue
            head = heads.get(uid)
            if head is None:
                self.forget(followed.collection)
            else:
                if head.collection_id != followed.collection.id:
                    self._renamed(followed, head.collection_id)
                self._compare(followed, head)

    def _take_rows(self, asked: set[uuid.UUID], present: dict[uuid.UUID, Collection]) -> None:
        for key, row in list(self._names.items()):
            if row.uid in asked:
                self._names.pop(key)
        for row in present.values():
            self._names[(row.tenant, row.id)] = row
        for uid in asked:
            followed = self._followed.get(uid)
            if followed is None:
                continue
            if uid in present:
                followed.collection = present[uid]
            else:
                self.forget(followed.collection)

    async def _require_named(self, followed: Followed, collection: Collection) -> None:
        """Raises CollectionNotFound where the name leads to another index by now, to which what
        the caller waits for comes. Either of the two rows may be the older one."""
        async with self._store.system() as tx:
            found = await rows.collections_of(tx, [collection.uid])
        if not found or found[0].hidden:
            raise rows.collection_not_found(collection.id)
        followed.collection = found[0]

    def _renamed(self, followed: Followed, collection_id: str) -> None:
        """A migration was flipped: the name is looked up again, and who waits looks there."""
        self.exchanged(followed.collection)
        followed.collection = replace(followed.collection, id=collection_id)
        followed.notify()

    def _compare(self, followed: Followed, head: Head) -> None:
        followed.head_seq = head.seq
        index = followed.index
        at_head = (
            index is not None
            and index.view.watermark == head.seq
            and followed.change_id == head.change_id
            and index.settings == self._loader.settings(followed.collection)
            and not followed.adopts()
        )
        followed.compare(head)
        if at_head:
            self._tender.tend(followed)
        elif followed.work is None or followed.work.done():
            self._work(followed)

    def _work(self, followed: Followed) -> None:
        async def work() -> None:
            await self._catcher.catch_up(followed)
            self._tender.tend(followed)

        followed.work = asyncio.create_task(work(), name=f"index {followed.collection.id}")

    async def _close_unused(self) -> None:
        over = len(self._followed) - self._open_max
        if over <= 0:
            return
        idle = [one for one in self._followed.values() if not one.waiting and not one.tasks()]
        for followed in sorted(idle, key=lambda one: one.used_s)[:over]:
            await self._tender.remember(followed)
            if self._followed.get(followed.collection.uid) is followed and not followed.waiting:
                del self._followed[followed.collection.uid]
                self._standing.came(followed.collection.uid, 0)
                self._names.pop((followed.collection.tenant, followed.collection.id), None)

    def _observe(self) -> None:
        stats = [views.stats(f.index.view) for f in self._followed.values() if f.index is not None]
        self.memory_bytes = sum(s.heap_bytes + s.vector_bytes + s.graph_bytes for s in stats)
        metrics.INDEX_POINTS.set(sum(s.points for s in stats))
        metrics.INDEX_TOMBSTONES.set(sum(s.tombstones for s in stats))
        metrics.INDEX_MEMORY_BYTES.set(self.memory_bytes)
        metrics.INDEX_OPEN.set(len(stats))
        lags = [self.lag_commits(f.collection) for f in self._followed.values()]
        metrics.INDEX_LAG_COMMITS.set(max(lags, default=0))
