"""What all handlers of the retrieval service share: their node's parts, and how names are read."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from engine.index import view as views
from services.mesh.mesh import Mesh
from services.retrieval.core import RetrievalCore
from services.retrieval.index.opening import IndexRoom
from services.retrieval.migration.migrator import Migrator
from services.retrieval.search.searching import Searcher
from services.rpc import fields, names
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.store import Store


class Handlers:
    """The parts of a node that handlers use."""

    def __init__(self, store: Store, mesh: Mesh, threads: Executor, index: IndexRoom) -> None:
        self._store = store
        self._threads = threads
        self._preparing = asyncio.Semaphore(1)
        self._index = index
        self._indexes = index.indexes
        self._core = RetrievalCore(self._indexes, mesh, threads)
        self._searcher = Searcher(self._indexes, mesh, threads, index.recall)
        self._limiter = index.limiter
        self._migrator = Migrator(
            store, self._indexes, self._core, self._limiter, threads, index.owner
        )
        # Each holds the vectors of a segment once more, for a while.
        self._trials = asyncio.Semaphore(1)

    async def _collection(self, name: str, call: Call, field: str = "collection") -> Collection:
        return await self._indexes.collection(call.tenant, names.collection_id(name, field), call)

    async def _view(
        self, name: str, min_watermark: str, call: Call
    ) -> tuple[Collection, views.View]:
        collection = await self._collection(name, call)
        least = fields.watermark(min_watermark or call.min_watermark)
        return collection, await self._indexes.view(collection, least, call)
