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
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.errors import RagmeshError
from engine.index.building import Job, Spec, prepare_job
from engine.index.collection import CollectionIndex
from engine.index.comparing import Comparison, compare, part, sample_queries
from engine.index.maintenance import Reason, Work
from engine.index.sealed import Sealed
from engine.index.storage import Storage
from engine.index.view import View
from services.ending import ended
from services.objects.seam import ObjectStore
from services.retrieval.index.builder import Builder, BuiltFile
from services.retrieval.index.loading import Loader
from services.rpc import metrics
from services.store.changes import get_head
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

SAMPLE = 32
"""Queries by which a segment without its tombstones is compared with what it is built of."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was built for a work; None where none of its rows lives."""

    work: Work
    built: BuiltFile | None
    storage: Storage

    @property
    def wall_s(self) -> float:
        """How long it took to build."""
        return 0.0 if self.built is None else self.built.wall_s


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
        *,
        merges: int = 1,
    ) -> None:
        """At most so many `merges` at once: less than the builder has places, so that what was
        just written is sealed while a long merge goes on."""
        self._merging = asyncio.Semaphore(merges)
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

    @contextlib.asynccontextmanager
    async def lease(self, collection: Collection, kind: Kind) -> AsyncIterator[bool]:
        """Whether nobody else builds now, or will until the end."""
        if not await self._claim(collection, kind):
            yield False
            return
        beat = asyncio.create_task(self._hold(collection, kind))
        try:
            yield True
        finally:
            await ended([beat])
            with contextlib.suppress(RagmeshError):
                async with self._store.transaction(collection.tenant) as tx:
                    await release_build(tx, collection, self._owner, kind)

    async def head_seq(self, collection: Collection) -> int:
        """The latest commit of the collection's log; 0 where it is deleted."""
        async with self._store.transaction(collection.tenant) as tx:
            head = await get_head(tx, collection.tenant, collection.uid)
        return 0 if head is None else head.seq

    @contextlib.asynccontextmanager
    async def scratch(self, collection: Collection) -> AsyncIterator[Path]:
        """A folder for what is built; gone at the end with what was not published."""
        folder = self._loader.folder(collection)
        path = Path(await self._run(lambda: tempfile.mkdtemp(prefix="build-", dir=folder)))
        try:
            yield path
        finally:
            await self._run(lambda: shutil.rmtree(path, ignore_errors=True))

    async def make(
        self, collection: Collection, index: CollectionIndex, work: Work, scratch: Path
    ) -> Candidate:
        """Have a segment built, beside the index. Raises BuildFailed."""
        if not work.rows:
            return Candidate(work, None, index.settings.storage)
        chosen = index.settings
        spec = Spec(
            chosen.dimensions,
            chosen.metric,
            chosen.language,
            chosen.graph,
            work.sealed_seq,
            chosen.storage,
            continues=work.reason is Reason.MERGE,
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

        def prepare() -> Job:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            return prepare_job(sources, spec, folder, folder / "out")

        turn = contextlib.nullcontext() if work.reason is Reason.SEAL else self._merging
        async with turn:
            job = await self._run(prepare)
            return Candidate(work, await self._builder.build(asdict(job)), chosen.storage)

    async def opened(self, index: CollectionIndex, candidates: Sequence[Candidate]) -> list[Sealed]:
        """What was built, open."""
        files = [one.built for one in candidates if one.built is not None]
        return await self._run(
            lambda: [index.open(one.path, one.sha256.hex(), check=False) for one in files]
        )

    def disk_bytes(self, collection: Collection, view: View) -> int:
        """What the files of a view's segments take on this node's disk. Blocks."""
        total = 0
        for one in view.segments:
            if one.sealed is not None:
                try:
                    total += self._loader.segment_path(collection, one.sealed.name).stat().st_size
                except FileNotFoundError:  # retired and dropped, and still open
                    total += one.sealed.nbytes
        return total

    async def publish(
        self, collection: Collection, candidates: Sequence[Candidate], sealed_from: int
    ) -> int | None:
        """Swap segments as one commit; its number, or None where the log went another way."""
        files = [one.built for one in candidates if one.built is not None]
        for built in files:
            name = built.sha256.hex()
            await self._objects.put(name, built.path)
            path = self._loader.segment_path(collection, name)
            await self._run(partial(built.path.rename, path))
        seals = [one.work.sealed_seq for one in candidates if one.work.reason is Reason.SEAL]
        async with self._store.transaction(collection.tenant) as tx:
            outcome = await publish(
                tx,
                collection,
                [c.built.segment(c.work.reason.value) for c in candidates if c.built is not None],
                [bytes.fromhex(name) for one in candidates for name in one.work.retired],
                sealed_from=sealed_from,
                sealed_seq=max(seals, default=sealed_from),
                exists=self._objects.exists,
                storage=candidates[0].storage.value,
            )
        if isinstance(outcome, Outdated):
            _LOG.info("a segment of %s is not needed: %s", collection.id, outcome.reason)
            return None
        for one in candidates:
            reason, rows = one.work.reason, one.work.rows
            metrics.SEGMENTS_BUILT.labels(reason.value).inc()
            if one.built is not None:
                _LOG.info("%s of %s: %d rows in %.1f s", reason, collection.id, rows, one.wall_s)
        return outcome.seq

    async def _work(
        self,
        collection: Collection,
        index: CollectionIndex,
        kind: Kind,
        choose: Callable[[], Work | None],
    ) -> int | None:
        if choose() is None:
            return None
        async with self.lease(collection, kind) as held:
            work = choose() if held else None
            if work is None:
                return None
            sealed_from = index.sealed_seq
            async with self.scratch(collection) as scratch:
                candidate = await self.make(collection, index, work, scratch)
                if work.reason is Reason.COMPACT and await self._worse(index, candidate):
                    return None
                return await self.publish(collection, [candidate], sealed_from)

    async def _worse(self, index: CollectionIndex, candidate: Candidate) -> bool:
        """Whether searches would find less in what was built than in what it is built of."""
        segments = await self.opened(index, [candidate])
        view, retired = index.view, candidate.work.retired
        names = {one.name for one in segments}

        def work() -> Comparison:
            preview = index.preview(view, segments, retired)
            old = [one for one in view.segments if one.sealed and one.sealed.name in retired]
            new = [one for one in preview.segments if one.sealed and one.sealed.name in names]
            before = part(view, old)
            return compare(before, part(preview, new), sample_queries(before, SAMPLE))

        found = await self._run(work)
        if not found.worse:
            return False
        index.spare(candidate.work)
        metrics.COMPACTIONS_ROLLED_BACK.inc()
        _LOG.warning(
            "a segment built without its tombstones was thrown away: recall would fall from "
            "%.3f to %.3f",
            found.recall_before,
            found.recall_after,
        )
        return True

    async def _claim(self, collection: Collection, kind: Kind) -> bool:
        async with self._store.transaction(collection.tenant) as tx:
            return await claim_build(tx, collection, self._owner, LEASE_S, kind)

    async def _hold(self, collection: Collection, kind: Kind) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(RagmeshError):
                await self._claim(collection, kind)

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)
