"""Keeps one node's share of sealing and merging: claims work, has it built, and publishes it.

Whoever holds the lease of a collection builds; what is published is checked against the log, so two
who build at once waste work and nothing else. A build that fails is tried again later, and its rows
are searched without it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from engine.errors import RagmeshError
from engine.index.building import Spec, prepare_job
from engine.index.collection import CollectionIndex
from engine.index.maintenance import Reason, Work
from services.retrieval.builder import Builder, BuiltFile
from services.retrieval.loading import Loader
from services.retrieval.objects import ObjectStore
from services.rpc import metrics
from services.store.collections import Collection
from services.store.segments import Outdated, claim_build, publish, release_build
from services.store.segments import Work as Kind
from services.store.store import Store

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

LEASE_S = 60.0
"""How long others wait for a node that died while it built. The lease is extended meanwhile."""

PAUSE_S = 5.0
"""After a build that failed, or where another node builds."""


class Upkeep:
    """Seals and merges for collections whose indexes this node has. `owner` names the node."""

    def __init__(
        self,
        store: Store,
        objects: ObjectStore,
        builder: Builder,
        loader: Loader,
        threads: Executor,
        owner: str,
    ) -> None:
        self._store = store
        self._objects = objects
        self._builder = builder
        self._loader = loader
        self._threads = threads
        self._owner = owner

    async def seal(
        self, collection: Collection, index: CollectionIndex, *, quiet: bool
    ) -> int | None:
        """Seal what waits; the commit that published it, or None."""
        return await self._work(collection, index, "seal", lambda: index.seal_work(quiet=quiet))

    async def merge(
        self, collection: Collection, index: CollectionIndex, *, quiet: bool
    ) -> int | None:
        """Merge or compact what should be; the commit that published it, or None."""
        return await self._work(collection, index, "merge", lambda: index.merge_work(quiet=quiet))

    async def _work(
        self,
        collection: Collection,
        index: CollectionIndex,
        kind: Kind,
        choose: Callable[[], Work | None],
    ) -> int | None:
        if choose() is None or not await self._claim(collection, kind):
            return None
        beat = asyncio.create_task(self._hold(collection, kind))
        try:
            work = choose()
            return None if work is None else await self._build(collection, index, work)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            with contextlib.suppress(RagmeshError):
                async with self._store.transaction(collection.tenant) as tx:
                    await release_build(tx, collection, self._owner, kind)

    async def _claim(self, collection: Collection, kind: Kind) -> bool:
        async with self._store.transaction(collection.tenant) as tx:
            return await claim_build(tx, collection, self._owner, LEASE_S, kind)

    async def _hold(self, collection: Collection, kind: Kind) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(RagmeshError):
                await self._claim(collection, kind)

    async def _build(
        self, collection: Collection, index: CollectionIndex, work: Work
    ) -> int | None:
        sealed_from = index.sealed_seq
        if not work.rows:
            return await self._published(collection, work, None, sealed_from)
        folder = self._loader.folder(collection)
        scratch = Path(await self._run(lambda: tempfile.mkdtemp(prefix="build-", dir=folder)))
        try:
            built = await self._built(collection, index, work, scratch)
            name = built.sha256.hex()
            path = self._loader.segment_path(collection, name)
            await self._run(lambda: built.path.rename(path))
            await self._objects.put(name, path)
            return await self._published(collection, work, built, sealed_from)
        finally:
            await self._run(lambda: shutil.rmtree(scratch, ignore_errors=True))

    async def _built(
        self, collection: Collection, index: CollectionIndex, work: Work, scratch: Path
    ) -> BuiltFile:
        chosen = index.settings
        spec = Spec(
            chosen.dimensions, chosen.metric, chosen.language, chosen.graph, work.sealed_seq
        )
        sources = [
            (
                view,
                None
                if view.sealed is None
                else self._loader.segment_path(collection, view.sealed.name),
            )
            for view in work.sources
        ]
        job = await self._run(lambda: prepare_job(sources, spec, scratch, scratch / "out"))
        return await self._builder.build(asdict(job))

    async def _published(
        self, collection: Collection, work: Work, built: BuiltFile | None, sealed_from: int
    ) -> int | None:
        sealing = work.reason is Reason.SEAL
        async with self._store.transaction(collection.tenant) as tx:
            outcome = await publish(
                tx,
                collection,
                [] if built is None else [built.segment(work.reason.value)],
                [bytes.fromhex(one) for one in work.retired],
                sealed_from=sealed_from,
                sealed_seq=work.sealed_seq if sealing else sealed_from,
                exists=self._objects.exists,
            )
        if isinstance(outcome, Outdated):
            _LOG.info("a segment of %s is not needed: %s", collection.id, outcome.reason)
            return None
        metrics.SEGMENTS_BUILT.labels(work.reason.value).inc()
        if built is not None:
            rows, wall_s = built.rows, built.wall_s
            _LOG.info("%s of %s: %d rows in %.1f s", work.reason, collection.id, rows, wall_s)
        return outcome.seq

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)
