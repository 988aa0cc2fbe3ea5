"""Snapshots: a collection kept as it was at a commit, and made anew from that under another name.

A snapshot copies nothing: it names the sealed files that the collection consisted of, and one of
its own. While it exists, clean-up leaves them alone.

Restoring is one transaction, so that nobody sees half of it and a node that dies leaves nothing.
Points keep the commit numbers that they had, so the files fit the new collection as they are and
are adopted by it: nothing is built. Passages are the exception: their documents do not come along,
so they are written as points of their own.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from engine.errors import DataLoss, IndexUnavailable
from engine.index.collection import CollectionIndex
from engine.index.files import Written
from engine.index.segment import SegmentView
from engine.index.snapshot import Kept, living, read_snapshot, write_snapshot
from engine.index.view import View
from engine.types import Point
from services.objects.seam import ObjectMissing, ObjectStore
from services.retrieval.index.compaction import Compactor
from services.retrieval.index.indexes import Indexes
from services.retrieval.index.joining import Joined
from services.retrieval.index.loading import Loader
from services.rpc.call import Call
from services.store.changes import get_head
from services.store.collections import (
    Collection,
    CollectionSpec,
    collection_not_found,
    create_collection,
)
from services.store.points import PointRow, Watermark, apply_batch
from services.store.segments import NewSegment, Outdated, publish
from services.store.snapshots import (
    Snapshot,
    SnapshotObject,
    add_snapshot,
    restore_points,
    snapshot_objects,
)
from services.store.store import Store, Tx

T = TypeVar("T")
R = TypeVar("R")

SETTINGS = tuple(CollectionSpec.__dataclass_fields__)

TRIES_MAX = 5
"""Of recording a snapshot while its segments are merged away."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A snapshot's files, each read whole and found to be what its name says."""

    snapshot: Snapshot
    kept: Kept
    segments: tuple[tuple[SnapshotObject, SegmentView], ...]

    @property
    def size_bytes(self) -> int:
        """What an index of it takes, on disk and in memory."""
        late = sum(array.nbytes for array in self.kept.late.values())
        return late + sum(one.rows.nbytes for _, one in self.segments)

    @property
    def memory_bytes(self) -> int:
        """What of that searches by vector touch."""
        vectors = sum(one.kept.nbytes for _, one in self.segments)
        graphs = sum(one.graph.nbytes for _, one in self.segments if one.graph is not None)
        return vectors + graphs + sum(array.nbytes for array in self.kept.late.values())


class Snapshots:
    """Makes snapshots of this node's collections, and collections of snapshots."""

    def __init__(
        self,
        store: Store,
        objects: ObjectStore,
        indexes: Indexes,
        loader: Loader,
        compactor: Compactor,
        threads: Executor,
    ) -> None:
        self._store = store
        self._objects = objects
        self._indexes = indexes
        self._loader = loader
        self._compactor = compactor
        self._threads = threads
        self._restores: Joined[object] = Joined("The restore")

    async def create(
        self,
        collection: Collection,
        call: Call,
        record: Callable[[Callable[[Tx, str], Awaitable[Snapshot]]], Awaitable[T]],
    ) -> T:
        """Keep the collection as it is: every write that was acknowledged before is in it.

        `record` gets what records the snapshot under an id, as the last thing of a transaction,
        and returns what this returns. Raises SnapshotExists, and IndexUnavailable where the
        segments change too fast, or the disk refuses.
        """
        async with self._store.transaction(collection.tenant, timeout_s=call.remaining_s()) as tx:
            head = await get_head(tx, collection.tenant, collection.uid)
        if head is None:
            raise collection_not_found(collection.id)
        view = await self._indexes.view(collection, head.seq, call)
        index = self._indexes.index(collection)
        if index is not None and index.seal_work() is not None:
            # What is not sealed is copied: let it be little.
            await self._compactor.seal(collection)
        for _ in range(TRIES_MAX):
            view = await self._indexes.view(collection, head.seq, call)
            try:
                return await self._record(collection, view, record)
            except _Overtaken:
                await asyncio.sleep(0.1)
        raise IndexUnavailable(
            f"The segments of {collection.id} changed {TRIES_MAX} times while they were kept. "
            "Call again.",
            metadata={"tries": TRIES_MAX},
            retry_after_s=1.0,
        )

    @asynccontextmanager
    async def opened(self, collection: Collection, snapshot: Snapshot) -> AsyncIterator[Opened]:
        """A snapshot's files. Raises DataLoss, which names the object, where one is missing or
        damaged."""
        async with self._store.transaction(snapshot.tenant) as tx:
            objects = await snapshot_objects(tx, snapshot)
        async with self._scratch(collection) as folder:
            for one in objects:
                try:
                    await self._objects.fetch(one.name, folder / one.name)
                except (DataLoss, ObjectMissing) as error:
                    raise damaged(snapshot, one.name, error.message) from error
            yield await self._run(lambda: self._open(collection, snapshot, objects, folder))

    async def close(self) -> None:
        """Ends what is restored; nothing of it is left."""
        await self._restores.close()

    async def joined(self, key: Hashable, work: Callable[[], Awaitable[R]], call: Call) -> R:
        """A restore by its key: a second call joins the first, and who leaves early does not end
        it. Raises DeadlineExceeded."""
        return cast(R, await self._restores.run(key, work, call))

    async def restore(
        self,
        tx: Tx,
        opened: Opened,
        collection_id: str,
        first_seq: int,
        spec: CollectionSpec | None = None,
    ) -> int:
        """Make a collection of a snapshot in one transaction; its last commit.

        `first_seq` is where its commits begin to count, if not above; `spec` replaces the settings
        that the snapshot was kept with. Raises CollectionExists, IndexUnavailable where the
        snapshot is being deleted.
        """
        snapshot = opened.snapshot
        first_seq = max(first_seq, snapshot.seq)
        spec = spec or snapshot.spec
        made = await create_collection(tx, collection_id, spec, first_seq=first_seq)
        adopted: list[NewSegment] = []
        late: list[Iterator[list[Point]]] = [opened.kept.late_rows()]
        for found, segment in opened.segments:
            if segment.rows.passages(segment.live):
                late.append(points for points, _ in living(segment))
            elif segment.live_count:
                adopted.append(NewSegment(found.sha256, found.rows, found.size_bytes, "seal"))
                await self._restore_rows(tx, made, segment)
        seq = first_seq
        for source in late:
            while step := await self._run(partial(next, source, None)):
                seq = (await apply_batch(tx, made, [point_row(point) for point in step])).seq
        if adopted:
            outcome = await publish(
                tx,
                made,
                adopted,
                sealed_from=0,
                sealed_seq=first_seq,
                exists=self._objects.exists,
            )
            if isinstance(outcome, Outdated):
                raise IndexUnavailable(
                    f"Snapshot {snapshot.id} cannot be used now: {outcome.reason}. Nothing was "
                    "restored; call again.",
                    metadata={"snapshot": snapshot.id, "reason": outcome.reason},
                    retry_after_s=1.0,
                )
            seq = outcome.seq
        return seq

    async def _record(
        self,
        collection: Collection,
        view: View,
        record: Callable[[Callable[[Tx, str], Awaitable[Snapshot]]], Awaitable[T]],
    ) -> T:
        async with self._scratch(collection) as folder:
            try:
                written: Written = await self._run(lambda: write_snapshot(view, folder / "own"))
            except OSError as error:
                raise _refused(collection, error) from error
            await self._objects.put(written.sha256, written.path)
        segments = [
            bytes.fromhex(one.sealed.name) for one in view.segments if one.sealed is not None
        ]
        late = sum(one.live_count for one in view.segments if one.sealed is None)
        own = SnapshotObject(bytes.fromhex(written.sha256), late, written.size_bytes, True)
        at = Watermark(view.watermark, uuid.UUID(view.change_id))

        async def add(tx: Tx, snapshot_id: str) -> Snapshot:
            exists = self._objects.exists
            added = await add_snapshot(
                tx, collection, snapshot_id, at, view.points, own, segments, exists
            )
            if isinstance(added, Outdated):
                raise _Overtaken(added.reason)
            return added

        return await record(add)

    def _open(
        self,
        collection: Collection,
        snapshot: Snapshot,
        objects: list[SnapshotObject],
        folder: Path,
    ) -> Opened:
        named = {one.name: one for one in objects}
        owns = [one.name for one in objects if one.own]
        if not owns:
            raise damaged(snapshot, "", "it was deleted in this moment")
        name = owns[0]
        try:
            kept = read_snapshot(folder / name)
            # As they were kept then, whatever the collection's settings are by now.
            settings = {name: getattr(snapshot.spec, name) for name in SETTINGS}
            index = CollectionIndex(self._loader.settings(replace(collection, **settings)))
            segments = []
            for name, live in kept.live.items():
                if name not in named:
                    raise damaged(snapshot, name, "its snapshot does not name it")
                sealed = index.open(folder / name, name, check=False)
                if sealed.count != len(live):
                    raise damaged(snapshot, name, f"it has {sealed.count} rows")
                segments.append((named[name], SegmentView.of(sealed, live)))
        except DataLoss as error:
            raise damaged(snapshot, name, error.message) from error
        return Opened(snapshot, kept, tuple(segments))

    async def _restore_rows(self, tx: Tx, made: Collection, segment: SegmentView) -> None:
        steps = living(segment)
        while step := await self._run(partial(next, steps, None)):
            points, seqs = step
            await restore_points(tx, made, [point_row(point) for point in points], seqs)

    @asynccontextmanager
    async def _scratch(self, collection: Collection) -> AsyncIterator[Path]:
        folder = self._loader.folder(collection)

        def make() -> Path:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="snapshot-", dir=folder))

        path = await self._run(make)
        try:
            yield path
        finally:
            # Who is cancelled once more would take back what no thread has begun yet.
            await asyncio.shield(self._run(lambda: shutil.rmtree(path, ignore_errors=True)))

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


class _Overtaken(Exception):
    """A segment of the view was retired and is being deleted."""


def point_row(point: Point) -> PointRow:
    """A point that is written as it is; a passage as a point of its own."""
    return PointRow(
        id=point.id,
        vector=point.vector,
        text=point.text,
        payload=point.payload,
        sentences=point.sentences,
        token_vectors=point.token_vectors,
        sparse_vector=point.sparse_vector,
    )


def damaged(snapshot: Snapshot, name: str, why: str) -> DataLoss:
    """The error that names the object."""
    return DataLoss(
        f"Snapshot {snapshot.id} cannot be restored: object {name} is missing or damaged ({why}). "
        "Nothing was restored. Put that file back from a copy of the object store, or restore "
        "another snapshot.",
        metadata={"snapshot": snapshot.id, "object": name},
    )


def _refused(collection: Collection, error: OSError) -> IndexUnavailable:
    return IndexUnavailable(
        f"The snapshot of {collection.id} could not be written: {error.strerror} "
        f"({error.filename}). Nothing was kept. Free some space and call again.",
        metadata={"path": str(error.filename), "problem": str(error.strerror)},
        retry_after_s=5.0,
    )
