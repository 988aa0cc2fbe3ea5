"""Files of documents on their way: received, kept in the object store, read again, moved there.

A file that comes in is written down as it comes and hashed on the way, so a node holds none in
memory. It is put into the object store before a row names it (`services.store.contents`): who is
cut off in between leaves an object that is swept, never a document without its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from engine.errors import DataLoss, RagmeshError
from services.ending import ended
from services.objects.directory import TEMPORARY, refused
from services.objects.seam import RETRY_AFTER_S, ObjectMissing, ObjectStore, ObjectStoreFailed
from services.objects.sweeping import tend_objects
from services.store import contents
from services.store.cleanup import DOCUMENT_FILES
from services.store.contents import Content, NotKept
from services.store.store import Store

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

PUTS_MAX = 3
"""How often a file is put whose object goes before a row names it."""
LOOK_BYTES = 256 << 10
"""To put a shorter file once more takes less than to look whether it is there."""
MOVE_ROUND_S = 60.0
"""Between two looks for files that are still in rows."""
MOVE_PAUSE_S = 0.02
"""Between two files that are moved, so that callers come first."""


class Incoming:
    """A file that comes in, on disk. Made by `Files.incoming`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._work: asyncio.Future[None] | None = None

    @property
    def sha256(self) -> bytes:
        """Of what came so far."""
        return self._digest.digest()

    async def take(self, data: bytes) -> None:
        """The next bytes. Raises ObjectStoreFull and ObjectStoreFailed."""
        self.size_bytes += len(data)
        await self._run(lambda: self._write(data))

    async def whole(self) -> None:
        """Nothing more comes: the file is on its path. Raises as `take` does."""
        await self._run(self._end)

    async def close(self) -> None:
        """Removes the file, once no thread writes to it: who is cancelled leaves one behind."""
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._remove)

    async def _run(self, work: Callable[[], None]) -> None:
        self._work = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            await asyncio.shield(self._work)
        except OSError as error:
            raise refused("written", "The file", self.path.parent, error) from error

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(  # noqa: SIM115
                self.path, "xb", buffering=0, opener=_private
            )
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._digest.update(data)

    def _end(self) -> None:
        if self._file is None:
            self._write(b"")
        assert self._file is not None
        self._file.close()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
            self.path.unlink(missing_ok=True)


class Files:
    """The files of documents of all tenants, from `start` to `close`."""

    def __init__(self, store: Store, objects: ObjectStore) -> None:
        self._store = store
        self._objects = objects
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Sweeps what no document needs, and moves what is still in rows, from now on."""
        self._tasks = [
            asyncio.create_task(
                tend_objects(self._store, self._objects, DOCUMENT_FILES), name="files"
            ),
            asyncio.create_task(self._move_all(), name="move files"),
        ]

    async def close(self) -> None:
        """Ends that, and closes the object store. Twice does nothing."""
        tasks, self._tasks = self._tasks, []
        await ended(tasks)
        self._objects.close()

    @contextlib.asynccontextmanager
    async def incoming(self) -> AsyncIterator[Incoming]:
        """A place for a file that comes in; nothing is left of it there afterwards."""
        made = Incoming(self._objects.scratch / f"{TEMPORARY}upload-{secrets.token_hex(8)}")
        try:
            yield made
        finally:
            # Who is cancelled once more would leave the file behind.
            await asyncio.shield(made.close())

    async def kept(
        self, tenant: str, content: Content, path: Path, named: Callable[[], Awaitable[T]]
    ) -> T:
        """Keep a file and have `named` write, in one transaction, a row that names it; its answer.

        A long file of the tenant's that is there is not put again. Raises DataLoss where the file
        is not what `content` says, what `named` raises, and ObjectStoreFailed.
        """
        there = False
        if content.size_bytes > LOOK_BYTES:
            async with self._store.transaction(tenant) as tx:
                there = await contents.find_content(tx, content.sha256) is not None
        for _ in range(PUTS_MAX):
            if not there:
                await self._put(tenant, content.sha256, path)
            try:
                return await named()
            except NotKept:
                there = False
        raise ObjectStoreFailed(
            f"The file was put {PUTS_MAX} times, and each time it was gone before a document "
            "named it. Does another mesh sweep the same object store? Try again.",
            metadata={"object": contents.object_name(tenant, content.sha256)},
            retry_after_s=RETRY_AFTER_S,
        )

    async def exists(self, name: str) -> bool:
        """Whether there is such an object. Raises ObjectStoreFailed."""
        return await self._objects.exists(name)

    async def read(self, tenant: str, sha256: bytes) -> AsyncGenerator[bytes, None]:
        """A file in pieces of about 1 MiB. Raises ObjectMissing where it was deleted, and DataLoss
        where its bytes are not what they were."""
        name = contents.object_name(tenant, sha256)
        pieces = self._objects.read(name, sha256=sha256.hex())
        try:
            first = await anext(pieces, None)
        except ObjectMissing:
            await self.move(tenant, sha256)  # or another node has just done so
            pieces = self._objects.read(name, sha256=sha256.hex())
            first = await anext(pieces, None)
        async with contextlib.aclosing(pieces):
            if first is not None:
                yield first
            async for piece in pieces:
                yield piece

    async def move(self, tenant: str, sha256: bytes) -> bool:
        """Move a file that is still in rows into the object store; False where there is none.

        May be cut off anywhere, and done by several at once. Raises DataLoss where the pieces are
        not what the hash says: they stay where they are.
        """
        async with self.incoming() as taken:
            while True:
                async with self._store.transaction(tenant) as tx:
                    piece = await contents.piece_of(tx, sha256, taken.size_bytes // _PIECE_BYTES)
                if piece is None:
                    break
                await taken.take(piece)
                if len(piece) < _PIECE_BYTES:
                    break
            await taken.whole()
            async with self._store.transaction(tenant) as tx:
                place = await contents.find_content(tx, sha256)
            if place is None or place.object is not None:
                return False  # deleted, or moved by another node
            if taken.sha256 != sha256:
                raise DataLoss(
                    f"the stored file {sha256.hex()} does not match its hash; upload it again",
                    metadata={"sha256": sha256.hex()},
                )
            content = Content(sha256, taken.size_bytes, "")
            return await self._moved(tenant, content, taken.path)

    async def _moved(self, tenant: str, content: Content, path: Path) -> bool:
        for _ in range(PUTS_MAX):
            await self._put(tenant, content.sha256, path)
            with contextlib.suppress(NotKept):
                async with self._store.transaction(tenant) as tx:
                    return await contents.move_content(tx, content.sha256, self.exists)
        return False

    async def _put(self, tenant: str, sha256: bytes, path: Path) -> None:
        name = contents.object_name(tenant, sha256)
        await self._objects.put(name, path, sha256=sha256.hex())

    async def _move_all(self) -> None:
        """Moves every file that is still in rows, until cancelled: an older node may add some."""
        refused_keys: set[tuple[str, bytes]] = set()
        while True:
            try:
                moved = await self._move_round(refused_keys)
                if moved:
                    _LOG.info("%d files were moved into the object store", moved)
            except RagmeshError as error:
                _LOG.info("files are moved into the object store later: %s", error.message)
            except Exception:
                _LOG.exception("moving files into the object store is tried again later")
            await asyncio.sleep(MOVE_ROUND_S)

    async def _move_round(self, refused_keys: set[tuple[str, bytes]]) -> int:
        moved, after = 0, ("", b"")
        while True:
            async with self._store.system() as tx:
                found = await contents.to_move(tx, after)
            if not found:
                return moved
            after = found[-1]
            for key in found:
                if key in refused_keys:
                    continue
                try:
                    moved += await self.move(*key)
                except DataLoss as error:
                    refused_keys.add(key)
                    _LOG.warning("a file stays where it is: %s", error.message)
                await asyncio.sleep(MOVE_PAUSE_S)


_PIECE_BYTES = 1 << 20
"""Of pieces in rows, all but a file's last."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
