"""What a node opens to serve indexes: its directory, the object store, the builder, the indexes."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from pathlib import Path

from redis.asyncio import Redis

from engine.index.maintenance import MaintenanceSettings
from services.config import IndexSettings
from services.ending import ended
from services.objects.directory import DirectoryStore
from services.objects.seam import ObjectStore
from services.objects.sweeping import tend_objects
from services.retrieval.index.archives import Archives
from services.retrieval.index.builder import Builder
from services.retrieval.index.compaction import Compactor
from services.retrieval.index.directory import HeldIndex, hold_free_index, hold_index
from services.retrieval.index.indexes import Indexes
from services.retrieval.index.loading import Loader
from services.retrieval.index.recall import RecallWatch
from services.retrieval.index.snapshots import Snapshots
from services.retrieval.index.upkeep import Upkeep
from services.retrieval.limits import Limiter
from services.store.store import Store


class IndexRoom:
    """The indexes of a node and what they stand on, from `start` to `close`."""

    def __init__(
        self,
        store: Store,
        threads: Executor,
        redis: Redis | None,
        settings: IndexSettings,
        data_dir: Path,
        owner: str,
        maintenance: MaintenanceSettings | None = None,
        objects: ObjectStore | None = None,
    ) -> None:
        """Takes the node's index directory; `owner` names the node to those that build. `objects`
        is closed with it; None for the directory `objects` in the data directory. Raises
        FailedPrecondition where another process has the index directory."""
        self._store = store
        self.owner = owner
        self._held: HeldIndex = (
            hold_index(settings.directory)
            if settings.directory is not None
            else hold_free_index(data_dir / "index")
        )
        folder = self._held.root
        self._objects = objects or DirectoryStore(settings.objects_dir or data_dir / "objects")
        self._builder = Builder(
            folder,
            parallel=settings.builders,
            nice=settings.build_nice,
            wall_s=settings.build_wall_s,
        )
        loader = Loader(store, self._objects, folder, threads, maintenance or MaintenanceSettings())
        upkeep = Upkeep(
            store,
            self._objects,
            self._builder,
            loader,
            threads,
            owner,
            merges=max(1, settings.builders - 1),
        )
        self.indexes = Indexes(store, loader, upkeep, redis, owner, open_max=settings.open_max)
        by_request = Upkeep(
            store, self._objects, self._builder, loader, threads, f"{owner}/on request"
        )
        self.compactor = Compactor(self.indexes, by_request, threads)
        self.snapshots = Snapshots(
            store, self._objects, self.indexes, loader, self.compactor, threads
        )
        self.archives = Archives(store, self._objects, loader, threads)
        self.limiter = Limiter(self.indexes, settings)
        self.recall = RecallWatch(store, lambda: self.indexes.nudge(changed=True))
        self._tending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens what was open before, and follows the log."""
        await self.indexes.start()
        await self.recall.start()
        self._tending = asyncio.create_task(
            tend_objects(self._store, self._objects), name="objects"
        )

    async def close(self) -> None:
        """Ends builds, stops following, and lets go of the directory."""
        await self.recall.close()
        await self._builder.close()
        await self.compactor.close()
        await self.snapshots.close()
        if self._tending is not None:
            await ended([self._tending])
        await self.indexes.close()
        self._objects.close()
        self._held.release()
