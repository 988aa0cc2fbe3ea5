"""What a node does for migrations: mirrors those whose lease it gets, compares, exchanges.

Any node may mirror. Whoever exchanges takes the lease over, lets writes wait for the moment in
which the last pages are mirrored, and looks once more under the lock of the log. Searches wait for
nothing: they answer from one index or from the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from concurrent.futures import Executor
from functools import partial

from engine.errors import (
    MigrationNotReady,
    RagmeshError,
    RecallTooLow,
    StoreUnavailable,
)
from engine.index.comparing import sample_queries
from engine.types import Vector
from services.ending import ended
from services.retrieval.core import RetrievalCore
from services.retrieval.index.indexes import Indexes
from services.retrieval.limits import Limiter
from services.retrieval.migration.comparing import compare_indexes, query_of
from services.retrieval.migration.mirror import Mirror, copies
from services.rpc.call import Call
from services.store import changes, collections
from services.store import index_migrations as kept
from services.store.index_migrations import Compared, Migration
from services.store.index_migrations import Indexes as Pair
from services.store.mirroring import sample_texts
from services.store.store import Store

_LOG = logging.getLogger(__name__)

POLL_S = 1.0
"""How often a node looks for migrations that nobody mirrors."""

IDLE_S = 0.2
"""How long a mirror that has everything waits until it looks again."""

RETRY_S = 2.0
"""After what kept the mirror from going on."""

LEASE_S = 15.0
"""How long others wait for a node that died while it mirrored."""

CLOSED_S = 5.0
"""For how long writes wait at most while the last pages are mirrored; a node that dies meanwhile
leaves them waiting no longer."""

FLIP_S = 30.0
"""How long an exchange is tried where the caller gives no deadline."""

FLIP_LEASE_S = 10.0
"""How long others wait for a node that died while it exchanged."""

QUERIES = 32
VIEW_WAIT_S = 600.0
"""Questions that indexes are compared on, and how long their views may take to load."""


class Migrator:
    """The migrations of one node, whose name is `owner`."""

    def __init__(
        self,
        store: Store,
        indexes: Indexes,
        core: RetrievalCore,
        limiter: Limiter,
        threads: Executor,
        owner: str,
    ) -> None:
        self._store = store
        self._indexes = indexes
        self._core = core
        self._limiter = limiter
        self._threads = threads
        self._owner = owner
        self._mirror = Mirror(store, core)
        self._nudged = asyncio.Event()
        self._running: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look for migrations."""
        self._task = asyncio.create_task(self._watch(), name="migrations")

    async def close(self) -> None:
        """Ends; other nodes go on with what this one had."""
        tasks = [*self._running.values(), *([self._task] if self._task else [])]
        await ended(tasks)
        self._running.clear()

    def nudge(self) -> None:
        """Says that there is a new migration."""
        self._nudged.set()

    async def flip(
        self, collection_id: str, *, roll_back: bool, overlap_min: float, call: Call
    ) -> None:
        """Have the name lead to the second index, or with `roll_back` to the first one again.

        Nothing happens where it does already. Raises MigrationNotFound, MigrationNotReady, and
        RecallTooLow where fewer of the hits are the same than `overlap_min` says.
        """
        left_s = call.remaining_s()
        give_up_s = time.monotonic() + (FLIP_S if left_s is None else min(FLIP_S, 0.9 * left_s))
        owner = f"{self._owner}/flip/{uuid.uuid4().hex}"
        # Before the lease is taken from who fills the second index: a job of hours would end by it.
        async with self._store.transaction(call.tenant, timeout_s=left_s) as tx:
            found = await kept.get(tx, await collections.get_collection(tx, collection_id))
        if not _is_wanted(collection_id, found, roll_back, overlap_min):
            return
        try:
            while True:
                migration, pair = await self._claimed(collection_id, owner, call)
                if not _is_wanted(collection_id, migration, roll_back, overlap_min):
                    return
                if await self._exchanged(migration, pair, owner, call):
                    self._indexes.exchanged(pair.source)
                    self.nudge()
                    return
                if time.monotonic() >= give_up_s:
                    raise kept.not_ready(
                        collection_id, "writes came faster than they are mirrored; try again"
                    )
        finally:
            with contextlib.suppress(RagmeshError):
                await asyncio.shield(self._let_go(call.tenant, collection_id, owner))

    async def _exchanged(self, migration: Migration, pair: Pair, owner: str, call: Call) -> bool:
        """Whether the indexes were exchanged: not where something came between."""
        if not await self._drained(migration, pair, owner):
            return False
        # It is loaded, and has what was mirrored, before anybody is sent there.
        async with self._store.transaction(call.tenant) as tx:
            head = await changes.get_head(tx, call.tenant, pair.target.uid)
            migration = await kept.get(tx, pair.source)
        if head is None:
            return False
        await self._indexes.view(pair.target, head.seq, call)
        async with self._store.transaction(call.tenant) as tx:
            await kept.close_source(tx, migration, CLOSED_S)
        try:
            drained = await self._drained(migration, pair, owner)
            flip = partial(kept.flip, collection_id=pair.source.id, migration=migration)
            return drained and await self._store.run(call.tenant, flip) is not None
        finally:
            # Where they were exchanged it is closed for good, and stays so.
            with contextlib.suppress(RagmeshError):
                await asyncio.shield(self._open_source(migration))

    async def _open_source(self, migration: Migration) -> None:
        async with self._store.transaction(migration.tenant) as tx:
            await kept.close_source(tx, migration, 0.0)

    async def _claimed(self, collection_id: str, owner: str, call: Call) -> tuple[Migration, Pair]:
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await collections.get_collection(tx, collection_id)
            found = await kept.get(tx, row)
            claimed = await kept.claim(tx, found, owner, FLIP_LEASE_S, by_force=True)
            pair = None if claimed is None else await kept.indexes_of(tx, claimed)
        if claimed is None or pair is None:
            raise StoreUnavailable(
                "the migration changed in this moment; try again", retry_after_s=0.1
            )
        return claimed, pair

    async def _drained(self, migration: Migration, pair: Pair, owner: str) -> bool:
        """Mirrors until nothing is left; False where another took the lease, or it takes long."""
        give_up_s = time.monotonic() + FLIP_S
        while time.monotonic() < give_up_s:
            async with self._store.transaction(migration.tenant) as tx:
                claimed = await kept.claim(tx, migration, owner, FLIP_LEASE_S)
            done = None if claimed is None else await self._mirror.step(claimed, pair, owner)
            if done is None:
                return False
            if done[1]:
                return True
        return False

    async def _let_go(self, tenant: str, collection_id: str, owner: str) -> None:
        async with self._store.transaction(tenant) as tx:
            row = await collections.get_collection(tx, collection_id)
            await kept.release(tx, await kept.get(tx, row), owner)

    async def _watch(self) -> None:
        while True:
            try:
                async with self._store.system() as tx:
                    found = await kept.list_migrations(tx)
                self._running = {uid: one for uid, one in self._running.items() if not one.done()}
                for migration in found:
                    self._take(migration)
            except RagmeshError as error:
                _LOG.info("migrations cannot be read now: %s", error.message)
            except Exception:
                _LOG.exception("migrations cannot be read now")
                await asyncio.sleep(RETRY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._nudged.wait()
            self._nudged.clear()

    def _take(self, migration: Migration) -> None:
        if migration.home_uid not in self._running:
            self._running[migration.home_uid] = asyncio.create_task(
                self._run(migration), name=f"migration {migration.home_uid}"
            )

    async def _run(self, migration: Migration) -> None:
        """Mirrors for as long as the lease is this node's."""
        try:
            claimed = await self._claim(migration)
            if claimed is None:
                await self._keep_open(migration)
                return
            over = asyncio.Event()
            beat = asyncio.create_task(self._beat(claimed, over))
            try:
                while claimed is not None:
                    claimed = await self._advance(claimed)
            finally:
                # Not cancelled: that would close a connection in the middle of a statement.
                over.set()
                await asyncio.gather(beat, return_exceptions=True)
                with contextlib.suppress(RagmeshError):
                    await asyncio.shield(self._release(migration))
        except RagmeshError as error:
            _LOG.info("a migration goes on later: %s", error.message)
        except Exception:
            _LOG.exception("a migration failed and is tried again")
            await asyncio.sleep(RETRY_S)

    async def _advance(self, migration: Migration) -> Migration | None:
        """One page further, or a pause; None where the migration is not this node's any more."""
        async with self._store.transaction(migration.tenant) as tx:
            pair = await kept.indexes_of(tx, migration)
        if pair is None:
            return None
        # The node that mirrors also seals: somebody has to have the index open.
        self._indexes.keep_open(pair.target)
        try:
            reason = self._limiter.refusal_reason(pair.target)
            if reason:
                raise MigrationNotReady(
                    f"the node has no room for more points now ({reason})",
                    metadata={"reason": reason},
                )
            done = await self._mirror.step(migration, pair, self._owner)
            if done is None:
                return None
            migration, last = done
            if last and not migration.ready:
                return await self._compared(migration, pair)
        except RagmeshError as error:
            async with self._store.transaction(migration.tenant) as tx:
                await kept.say_problem(tx, migration, error.message, self._owner)
            await asyncio.sleep(RETRY_S)
            return await self._claim(migration)
        if last:
            await asyncio.sleep(IDLE_S)
        return migration

    async def _compared(self, migration: Migration, pair: Pair) -> Migration | None:
        compared = await self._compare(migration, pair)
        async with self._store.transaction(migration.tenant) as tx:
            return await kept.say_ready(tx, migration, compared, self._owner)

    async def _compare(self, migration: Migration, pair: Pair) -> Compared:
        """How the two indexes answer, at a moment when the second one had everything."""
        async with self._store.transaction(migration.tenant) as tx:
            heads = {
                head.collection_uid: head
                for head in await changes.heads_of(tx, [pair.source.uid, pair.target.uid])
            }
            texts = await sample_texts(tx, migration, QUERIES)
        if len(heads) < 2:
            raise collections.collection_not_found(pair.source.id)
        call = Call(
            migration.tenant,
            f"migration-{pair.target.uid.hex}",
            deadline_s=time.monotonic() + VIEW_WAIT_S,
            lane="bulk",
        )
        before, after = [
            await self._indexes.view(one, heads[one.uid].seq, call)
            for one in (pair.source, pair.target)
        ]
        queries: list[tuple[Vector, Vector]] = []
        if copies(pair):
            queries = [(one, one) for one in sample_queries(before, QUERIES)]
        elif pair.source.embedding_model and texts:
            asked = [query_of(text) for text in texts]
            vectors = [
                await self._core.embed_queries(one, asked, call)
                for one in (pair.source, pair.target)
            ]
            queries = list(zip(*vectors, strict=True))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, compare_indexes, before, after, queries)

    async def _keep_open(self, migration: Migration) -> None:
        """Has the index that may take over loaded on a node that serves the one it replaces."""
        if not migration.ready:
            return
        async with self._store.transaction(migration.tenant) as tx:
            pair = await kept.indexes_of(tx, migration)
        if pair is not None and self._indexes.index(pair.source) is not None:
            self._indexes.keep_open(pair.target)

    async def _claim(self, migration: Migration) -> Migration | None:
        async with self._store.transaction(migration.tenant) as tx:
            return await kept.claim(tx, migration, self._owner, LEASE_S)

    async def _release(self, migration: Migration) -> None:
        async with self._store.transaction(migration.tenant) as tx:
            await kept.release(tx, migration, self._owner)

    async def _beat(self, migration: Migration, over: asyncio.Event) -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEASE_S / 3):
                    await over.wait()
            if not over.is_set():
                with contextlib.suppress(RagmeshError):
                    await self._claim(migration)


def _is_wanted(
    collection_id: str, migration: Migration, roll_back: bool, overlap_min: float
) -> bool:
    """Whether there is anything to exchange. Raises as `flip` does where it cannot be."""
    if migration.flipped != roll_back:
        return False
    if not migration.ready:
        raise kept.not_ready(
            collection_id,
            migration.problem
            or "the second index is still being built; GetMigration shows how far",
        )
    if not migration.flipped and migration.queries and migration.overlap < overlap_min:
        raise RecallTooLow(
            f"Of {migration.queries} queries, {migration.overlap:.4f} of the hits are the same in "
            f"both indexes of {collection_id!r}, and overlap_min is {overlap_min:g}. Ask with a "
            "lower one, or end the migration.",
            field="overlap_min",
            metadata={"overlap": migration.overlap, "overlap_min": overlap_min},
        )
    return True
