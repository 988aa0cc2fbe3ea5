"""How an index comes to stand at the head of its log, from whatever this node has of it.

- With an index in memory: what changed since its watermark, and the segments that were adopted.
- With a manifest of an earlier life: the segments and which of their rows lived then, and what
  changed since.
- With nothing: the segments, and from the log which of their rows live.

Rows of commits after `sealed_seq` are in no segment and always come from the log. Segments are
fetched from the object store once and kept in the node's directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from collections.abc import Collection as Collection_
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.errors import DataLoss
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.columns import hash_ids
from engine.index.exact import Metric
from engine.index.graph import GraphSettings
from engine.index.maintenance import MaintenanceSettings
from engine.index.manifest import Manifest, load_manifests, manifest_of, save_manifest
from engine.index.payloads import Mask
from engine.index.sealed import Sealed
from engine.index.storage import Storage
from engine.types import Point
from services.objects.seam import ObjectMissing, ObjectStore, ObjectStoreFailed
from services.retrieval.index.own_writes import OwnWrite, Prepared, point_of
from services.store import changes
from services.store.changes import Feed, Gone, Rebuild
from services.store.collections import Collection
from services.store.points import Watermark
from services.store.segments import Outdated, reset_segments
from services.store.store import Store

T = TypeVar("T")

_SUFFIX = ".segment"
_LEFTOVERS = ("build-*", "snapshot-*", "*.partial", ".part-*", ".job-*")
"""Names in the node's directory that only work in progress has."""


class SegmentLost(DataLoss):
    """No whole copy of a segment is left: its rows are sealed again from the log."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"segment {name} is lost ({why}); its rows are read from the log and sealed again",
            metadata={"segment": name},
        )
        self.name = name


@dataclass(frozen=True, slots=True)
class Advanced:
    """An index stands at the commit of this random id. `refused` says why its segments are not yet
    those of the commit; None where they are."""

    change_id: uuid.UUID
    refused: str | None


class SettingsChanged(Exception):
    """The log says that the collection is kept otherwise than its row, as it was read, does: read
    the row again, and then the log."""


class Loader:
    """Loads and advances indexes; see the module. `folder` is this node's own."""

    def __init__(
        self,
        store: Store,
        objects: ObjectStore,
        folder: Path,
        threads: Executor,
        maintenance: MaintenanceSettings,
    ) -> None:
        self._store = store
        self._objects = objects
        self._folder = folder
        self._threads = threads
        self._maintenance = maintenance

    def settings(self, collection: Collection) -> IndexSettings:
        """What the index of a collection is made with."""
        return IndexSettings(
            dimensions=collection.dimensions,
            metric=Metric(collection.metric),
            language=collection.language,
            storage=Storage(collection.vector_storage),
            graph=GraphSettings(
                m=collection.hnsw_m,
                ef_construction=collection.hnsw_ef_construction,
                ef_search=collection.hnsw_ef_search,
            ),
            maintenance=self._maintenance,
        )

    @property
    def root(self) -> Path:
        """This node's own folder."""
        return self._folder

    def folder(self, collection: Collection) -> Path:
        """Where this node keeps what it has of a collection."""
        return self._folder / str(collection.uid)

    def segment_path(self, collection: Collection, name: str) -> Path:
        """Where a segment's file is, if this node has it."""
        return self.folder(collection) / f"{name}{_SUFFIX}"

    async def load(self, collection: Collection) -> tuple[CollectionIndex, uuid.UUID] | None:
        """A new index at the head of the log, and the head's change id; None where the collection
        is gone. Raises DataLoss, StoreUnavailable and SettingsChanged."""
        folder = self.folder(collection)
        await self._run(lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True))
        for manifest in await self._run(lambda: load_manifests(folder)):
            loaded = await self._warm(collection, manifest)
            if loaded is not None:
                return loaded
        return await self._cold(collection)

    async def advance(
        self, collection: Collection, index: CollectionIndex, change_id: uuid.UUID
    ) -> Advanced | Rebuild | Gone:
        """Bring an index to the head, or say why that cannot be. Segments that cannot be fetched
        now hold up no write: their rows are searched as they are. Raises SegmentLost and
        SettingsChanged."""
        at = Watermark(index.view.watermark, change_id)
        async with changes.read_changes(
            self._store, collection.tenant, collection.uid, at
        ) as reading:
            if not isinstance(reading, Feed):
                return reading
            _check_settings(collection, reading)
            upserts, seqs, deletes = await _gather(reading, None)
            feed = reading
        present = set(index.segments)
        wanted = [segment.name for segment in feed.segments]
        head, refused = feed.head, None
        swap = partial(index.apply, upserts, deletes, head.seq, str(head.change_id), seqs=seqs)
        try:
            adopted = [
                await self._opened(collection, name, index)
                for name in wanted
                if name not in present
            ]
            swap = partial(
                swap,
                adopted=adopted,
                retired=present.difference(wanted),
                sealed_seq=head.sealed_seq,
            )
        except (ObjectStoreFailed, OSError) as error:
            refused = str(error)
        try:
            await self._run(swap)
        except DataLoss as error:
            return Rebuild(error.message)
        return Advanced(head.change_id, refused)

    async def apply(self, index: CollectionIndex, write: OwnWrite) -> None:
        """Apply a commit of this node to an index that stands right before it."""

        def work() -> None:
            given, change_id = write.upserts, str(write.change_id)
            if isinstance(given, Prepared):
                index.apply(
                    given.points, write.deletes, write.seq, change_id, vectors=given.vectors
                )
            else:
                points = [point_of(row) for row in given]
                index.apply(points, write.deletes, write.seq, change_id)

        await self._run(work)

    async def remember(self, collection: Collection, index: CollectionIndex) -> None:
        """Write what the next life of this node begins with, and drop files of other segments: an
        earlier manifest that names them fits the log no more. Raises OSError."""
        folder = self.folder(collection)
        view, sealed_seq = index.view, index.sealed_seq

        def work() -> None:
            manifest = manifest_of(view, sealed_seq)
            save_manifest(manifest, folder)
            for path in folder.glob(f"*{_SUFFIX}"):
                if path.name.removesuffix(_SUFFIX) not in manifest.live:
                    path.unlink(missing_ok=True)

        await self._run(work)

    async def remembered(self, uids: Collection_[uuid.UUID]) -> list[uuid.UUID]:
        """Of these collections those that this node had open, the latest first; what it has of
        others is removed, and what builds left that were cut short. Before anything is open."""

        def work() -> list[uuid.UUID]:
            known = {str(uid): uid for uid in uids}
            found: list[tuple[int, uuid.UUID]] = []
            for folder in self._folder.iterdir():
                if folder.name in known:
                    found.append((folder.stat().st_mtime_ns, known[folder.name]))
                    remove_leftovers(folder)
                elif _is_uid(folder.name):
                    shutil.rmtree(folder, ignore_errors=True)
            remove_leftovers(self._folder)
            return [uid for _, uid in sorted(found, reverse=True)]

        return await self._run(work)

    def drop(self, collection: Collection) -> None:
        """Remove what this node has of a deleted collection, soon."""
        self._threads.submit(shutil.rmtree, self.folder(collection), ignore_errors=True)

    async def reset(self, collection: Collection, lost: str) -> bool:
        """Have a lost segment's rows sealed anew; False where somebody else did so first."""
        async with self._store.transaction(collection.tenant) as tx:
            outcome = await reset_segments(tx, collection, bytes.fromhex(lost))
        return not isinstance(outcome, Outdated)

    async def _warm(
        self, collection: Collection, manifest: Manifest
    ) -> tuple[CollectionIndex, uuid.UUID] | None:
        """From a manifest; None where the log, or its segments, went another way since."""
        at = Watermark(manifest.watermark, uuid.UUID(manifest.change_id))
        async with changes.read_changes(
            self._store, collection.tenant, collection.uid, at
        ) as reading:
            if not isinstance(reading, Feed):
                return None
            _check_settings(collection, reading)
            if not {one.name for one in reading.segments} <= manifest.live.keys():
                return None
            upserts, seqs, _ = await _gather(reading, reading.sealed_seq)
            deletes = [id async for page in reading.tombstones() for id in page]
            feed = reading
        index = CollectionIndex(self.settings(collection))
        segments = [
            (await self._opened(collection, one.name, index), manifest.live[one.name])
            for one in feed.segments
        ]
        await self._run(lambda: self._filled(index, segments, feed, upserts, seqs, deletes))
        return index, feed.head.change_id

    async def _cold(self, collection: Collection) -> tuple[CollectionIndex, uuid.UUID] | None:
        async with changes.snapshot_scan(self._store, collection.tenant, collection.uid) as reading:
            if isinstance(reading, Gone):
                return None
            _check_settings(collection, reading)
            feed = reading
            index = CollectionIndex(self.settings(collection))
            opened = [await self._opened(collection, one.name, index) for one in feed.segments]
            lives = [np.zeros(one.count, np.bool_) for one in opened]
            expected = found = 0
            if opened:
                async for page in feed.id_seqs():
                    # They come by commit; what is not sealed comes whole, below.
                    sealed = int(np.searchsorted(page.seqs, feed.sealed_seq, "right"))
                    expected += sealed
                    ids, seqs_of = page.ids[:sealed], page.seqs[:sealed]
                    found += await self._run(partial(_mark, opened, lives, ids, seqs_of))
            if expected != found:
                raise SegmentLost(
                    opened[0].name, f"{expected - found} rows of the log are in no segment"
                )
            upserts, seqs, _ = await _gather(feed, feed.sealed_seq)
        segments = list(zip(opened, lives, strict=True))
        await self._run(lambda: self._filled(index, segments, feed, upserts, seqs, []))
        return index, feed.head.change_id

    @staticmethod
    def _filled(
        index: CollectionIndex,
        segments: list[tuple[Sealed, Mask]],
        feed: Feed,
        upserts: list[Point],
        seqs: list[int],
        deletes: list[str],
    ) -> None:
        head = feed.head
        index.restore(segments, head.sealed_seq, 0, "")
        step = index.settings.maintenance.seal_rows
        # In steps, so that no buffer grows past what is sealed at once; nobody sees the index yet.
        index.apply((), deletes, head.seq, str(head.change_id), sealed_seq=head.sealed_seq)
        for part in _steps(seqs, step):
            index.apply(upserts[part], (), head.seq, str(head.change_id), seqs=seqs[part])

    async def _opened(self, collection: Collection, name: str, index: CollectionIndex) -> Sealed:
        """A segment, from this node's directory or fetched. Raises SegmentLost."""
        path = self.segment_path(collection, name)
        if await self._run(path.exists):
            try:
                return await self._run(lambda: index.open(path, name))
            except DataLoss:
                await self._run(lambda: path.unlink(missing_ok=True))
        await self._run(lambda: path.parent.mkdir(mode=0o700, parents=True, exist_ok=True))
        try:
            await self._objects.fetch(name, path)
            return await self._run(lambda: index.open(path, name, check=False))
        except (DataLoss, ObjectMissing) as error:
            raise SegmentLost(name, error.message) from error

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def remove_leftovers(folder: Path) -> None:
    """Remove what work that a crash cut short left here: builds, and files without their names."""
    for pattern in _LEFTOVERS:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_uid(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def _check_settings(collection: Collection, feed: Feed) -> None:
    if feed.head.vector_storage != collection.vector_storage:
        raise SettingsChanged(collection.id)


async def _gather(feed: Feed, after_seq: int | None) -> tuple[list[Point], list[int], list[str]]:
    """What was written, with the commits that wrote it, and what was deleted: all of it, because
    an index stands at a commit only once all of it is applied."""
    upserts: list[Point] = []
    seqs: list[int] = []
    deletes: list[str] = []
    async for page in feed.pages(after_seq=after_seq):
        upserts += [
            p.point if p.span is None else replace(p.point, span=p.span) for p in page.upserts
        ]
        seqs += [p.seq for p in page.upserts]
        deletes += page.deletes
    return upserts, seqs, deletes


def _steps(seqs: list[int], rows: int) -> Iterator[slice]:
    """At least so many rows at a time, whole commits: what is sealed of them ends with one."""
    start = 0
    for end in range(1, len(seqs) + 1):
        if end == len(seqs) or (end - start >= rows and seqs[end] != seqs[end - 1]):
            yield slice(start, end)
            start = end


def _mark(segments: list[Sealed], lives: list[Mask], ids: tuple[str, ...], seqs: np.ndarray) -> int:
    """Marks which rows of segments live by their ids and commits; how many were found."""
    hashes, marked = hash_ids(ids), 0
    for segment, live in zip(segments, lives, strict=True):
        places = segment.rows.positions_by_hash(hashes)
        found = np.flatnonzero(places >= 0)
        same = found[segment.seqs[places[found]] == seqs[found]]
        live[places[same]] = True
        marked += len(same)
    return marked
