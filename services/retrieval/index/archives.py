"""Snapshots as files: given out piece by piece, and taken in.

What is given out are the objects of a snapshot as they are. What comes in may have been made by
anybody: it is received whole into a scratch folder, each object compared with its name, its rows
checked one by one, and written as points of a new collection in one transaction. So nobody sees
half of it, and who leaves early leaves nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import struct_pb2

from engine.errors import DataLoss, IndexUnavailable, InvalidArgument, QueueFull
from engine.index.archive import Head, Packed, Unpacker, pieces
from engine.index.exact import Metric, prepare_rows
from engine.index.foreign import broken, foreign_points
from engine.index.storage import Storage, check_range
from engine.types import Point
from services.objects.seam import ObjectMissing, ObjectStore
from services.retrieval.index.loading import Loader
from services.retrieval.index.snapshots import damaged, point_row
from services.rpc import fields
from services.store.collections import Collection, CollectionSpec, create_collection
from services.store.points import apply_batch, count_points
from services.store.snapshots import Snapshot, snapshot_objects
from services.store.store import Store, Tx

T = TypeVar("T")

AT_ONCE_MAX = 4
"""Files that a node gives out and takes in at once; each has a scratch folder while it lasts."""

PIECE_WAIT_S = 60.0
"""How long the next piece of a file may take to come."""

RETRY_AFTER_S = 5.0

TEXT_CHARACTERS_MAX = 100_000
PAYLOAD_BYTES_MAX = 64 << 10
"""As of points that callers write."""


class Archives:
    """Gives out and takes in the files of snapshots, a few at once."""

    def __init__(
        self, store: Store, objects: ObjectStore, loader: Loader, threads: Executor
    ) -> None:
        self._store = store
        self._objects = objects
        self._loader = loader
        self._threads = threads
        self._at_once = 0

    @property
    def root(self) -> Path:
        """Where scratch folders are, while they are."""
        return self._loader.root

    @asynccontextmanager
    async def given(
        self, snapshot: Snapshot, about: dict[str, Any]
    ) -> AsyncIterator[tuple[Head, AsyncGenerator[bytes, None]]]:
        """The head of a snapshot's file, and all of its bytes. `about` goes into the head.

        Raises DataLoss, which names the object, where one is missing or damaged, QueueFull, and
        IndexUnavailable where the disk refuses.
        """
        async with self._scratch() as folder:
            async with self._store.transaction(snapshot.tenant) as tx:
                objects = await snapshot_objects(tx, snapshot)
            if not objects:
                raise damaged(snapshot, "", "it was deleted in this moment")
            for one in objects:
                try:
                    await self._objects.fetch(one.name, folder / one.name)
                except (DataLoss, ObjectMissing) as error:
                    raise damaged(snapshot, one.name, error.message) from error
            head = Head(about, [Packed(one.name, one.size_bytes, one.own) for one in objects])
            yield head, self._pieces(head, folder)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Taken]:
        """A place for a file that comes in; nothing is left of it afterwards. Raises QueueFull,
        and IndexUnavailable where the disk refuses."""
        one: Taken | None = None

        async def idle() -> None:
            if one is not None:
                await one.close()

        async with self._scratch(idle) as folder:
            one = Taken(folder, self._run)
            yield one

    async def made(
        self,
        tx: Tx,
        taken: Taken,
        collection_id: str,
        spec: CollectionSpec,
        first_seq: int,
        points_max: int,
    ) -> tuple[int, int]:
        """Make a collection of a file that came whole, in one transaction: its last commit, and its
        points; once these are more than `points_max`, no further ones are written. Raises DataLoss
        and CollectionExists."""
        collection = await create_collection(tx, collection_id, spec, first_seq=first_seq)
        seq, count = first_seq, 0
        rows = taken.points(collection)
        while count <= points_max and (step := await self._run(partial(next, rows, None))):
            seq = (await apply_batch(tx, collection, [point_row(point) for point in step])).seq
            count += len(step)
        if count != await count_points(tx, collection):
            raise broken(taken.own, "a point is there twice")
        return seq, count

    async def _pieces(self, head: Head, folder: Path) -> AsyncGenerator[bytes, None]:
        source = pieces(head, folder)
        while (piece := await self._run(partial(next, source, None))) is not None:
            yield piece

    @asynccontextmanager
    async def _scratch(
        self, idle: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Path]:
        """A folder that goes at the end, once nobody writes to it, which `idle` waits for."""
        if self._at_once >= AT_ONCE_MAX:
            raise QueueFull(
                f"{AT_ONCE_MAX} snapshots are being exported or imported on this node. Try again "
                "shortly.",
                metadata={"at_once_max": AT_ONCE_MAX},
                retry_after_s=RETRY_AFTER_S,
            )
        self._at_once += 1
        path: Path | None = None
        try:
            make = partial(tempfile.mkdtemp, prefix="snapshot-", dir=self._loader.root)
            path = Path(await self._run(make))
            yield path
        except TimeoutError:  # which is an OSError too
            raise
        except OSError as error:
            raise IndexUnavailable(
                f"A file of the snapshot could not be kept here: {error.strerror} "
                f"({error.filename or self._loader.root}). Nothing was made. Free some space and "
                "call again.",
                metadata={"problem": str(error.strerror)},
                retry_after_s=RETRY_AFTER_S,
            ) from error
        finally:
            self._at_once -= 1
            if path is not None:
                # Who is cancelled once more would take back what no thread has begun yet.
                await asyncio.shield(self._removed(path, idle))

    async def _removed(self, path: Path, idle: Callable[[], Awaitable[None]] | None) -> None:
        if idle is not None:
            await idle()
        await self._run(partial(shutil.rmtree, path, ignore_errors=True))

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


class Taken:
    """A file that comes in."""

    def __init__(self, folder: Path, run: Callable[[Callable[[], None]], Any]) -> None:
        self._folder = folder
        self._run = run
        self._taking: asyncio.Future[None] | None = None
        self.unpacker = Unpacker(folder)

    @property
    def head(self) -> Head | None:
        """What it says of itself, once that has come."""
        return self.unpacker.head

    @property
    def own(self) -> str:
        """The name of the snapshot's own object."""
        assert self.head is not None
        return next(one.name for one in self.head.objects if one.own)

    async def take(self, data: bytes) -> None:
        """The next bytes. Raises DataLoss."""
        self._taking = asyncio.ensure_future(self._run(partial(self.unpacker.feed, data)))
        await asyncio.shield(self._taking)

    async def close(self) -> None:
        """Lets go of the file, once no thread writes to it: who is cancelled leaves one behind."""
        if self._taking is not None:
            await asyncio.gather(self._taking, return_exceptions=True)
        self.unpacker.close()

    def points(self, collection: Collection) -> Iterator[list[Point]]:
        """Its rows, checked as those of callers are, some at a time. Raises DataLoss."""
        assert self.head is not None
        names = [one.name for one in self.head.objects if not one.own]
        storage, metric = Storage(collection.vector_storage), Metric(collection.metric)
        source = foreign_points(self._folder, self.own, names, collection.dimensions)
        for points in source:
            try:
                vectors = [point.vector for point in points]
                for vector in prepare_rows(metric, collection.dimensions, vectors, "points"):
                    if vector is not None:
                        check_range(storage, vector, "vector")
                for point in points:
                    _check(point)
            except (InvalidArgument, ValueError, RecursionError) as error:
                raise broken(self.own, f"points cannot be as they are: {error}") from error
            yield points


def _check(point: Point) -> None:
    fields.characters(point.id, "id", 256, 1)
    fields.storable(point.id, "id")
    fields.characters(point.text, "text", TEXT_CHARACTERS_MAX)
    fields.storable(point.text, "text")
    if point.payload:
        message = struct_pb2.Struct()
        message.update(dict(point.payload))
        fields.payload(message, "payload", PAYLOAD_BYTES_MAX)
