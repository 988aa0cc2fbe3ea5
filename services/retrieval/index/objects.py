"""Where sealed segments lie for every node: the object store, and what is swept out of it.

An object's name is the SHA-256 of its bytes, in hexadecimal digits. So it never changes, it is
compared with its name when it is put and when it is fetched, and putting it twice is putting it
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from engine.errors import DataLoss, IndexUnavailable, RagmeshError
from services.store import cleanup
from services.store.store import Store

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

UNNAMED_KEPT_S = 3600.0
"""How old an object is that no segment names before it is swept. Younger ones are on their way."""
ROUND_S = 60.0
"""Between two rounds of deleting what is condemned."""
ROUNDS_PER_LISTING = 60
"""The whole store is listed once an hour."""
RETRY_AFTER_S = 5.0

_NAME = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".part-"
_PIECE_BYTES = 1 << 20
_NAMES_AT_ONCE = 500
_THREADS = 2  # one may hash a large object while another one is small
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})


class ObjectMissing(IndexUnavailable):
    """The store has no object of that name."""


class ObjectStoreFailed(IndexUnavailable):
    """Reading or writing failed. Nothing is half there."""


class ObjectStoreFull(ObjectStoreFailed):
    """There is no room for the object."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is listed. `age_s` counts from when it was last put."""

    name: str
    size_bytes: int
    age_s: float


class ObjectStore(Protocol):
    """What retrieval needs of one. Every method raises ObjectStoreFailed."""

    async def put(self, name: str, path: Path) -> None:
        """Store a file's bytes, durable when it returns. The file must not change afterwards.
        Raises DataLoss where they are not what the name says, and ObjectStoreFull."""

    async def fetch(self, name: str, path: Path) -> None:
        """Make `path` a file with the object's bytes, or leave it as it was. Raises ObjectMissing,
        DataLoss where the bytes are not what the name says, and ObjectStoreFull."""

    async def exists(self, name: str) -> bool:
        """Whether there is such an object."""

    async def delete(self, name: str) -> None:
        """Nothing happens where there is none."""

    def names(self) -> AsyncIterator[StoredObject]:
        """All objects, in no order."""

    async def tidy(self, age_s: float) -> int:
        """Remove what broken-off calls left longer than `age_s` ago; how many pieces."""


class DirectoryStore:
    """A directory that the nodes share. On one filesystem nothing is copied: files are linked."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    def close(self) -> None:
        """Ends its threads, when what they do is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put(self, name: str, path: Path) -> None:
        """See ObjectStore."""

        def work() -> None:
            with _told("put", name, self._root):
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                _transfer(path, self._file(name), name, as_new=True)

        await self._run(work)

    async def fetch(self, name: str, path: Path) -> None:
        """See ObjectStore."""

        def work() -> None:
            with _told("fetched", name, self._root):
                _transfer(self._file(name), path, name, as_new=False)

        try:
            await self._run(work)
        except ObjectStoreFailed as error:
            if error.metadata["problem"] == "ENOENT" and not await self.exists(name):
                raise ObjectMissing(
                    f"Object {name} is not in {self._root}. Where another node made it, give all "
                    "nodes the same RAGMESH_INDEX__OBJECTS_DIR.",
                    metadata={"object": name, "path": str(self._root)},
                ) from error
            raise

    async def exists(self, name: str) -> bool:
        """See ObjectStore."""

        def work() -> bool:
            with _told("looked up", name, self._root):
                try:
                    self._file(name).stat()
                except FileNotFoundError:
                    return False
                return True

        return await self._run(work)

    async def delete(self, name: str) -> None:
        """See ObjectStore."""

        def work() -> None:
            with _told("deleted", name, self._root):
                self._file(name).unlink(missing_ok=True)

        await self._run(work)

    async def names(self) -> AsyncIterator[StoredObject]:
        """See ObjectStore."""
        for found in await self._run(lambda: self._listed(_NAME.fullmatch)):
            yield found

    async def tidy(self, age_s: float) -> int:
        """See ObjectStore."""

        def work() -> int:
            left = [
                found
                for found in self._listed(lambda name: name.startswith(_TEMPORARY))
                if found.age_s > age_s
            ]
            for found in left:
                with _told("deleted", found.name, self._root):
                    (self._root / found.name).unlink(missing_ok=True)
            return len(left)

        return await self._run(work)

    def _listed(self, wanted: Callable[[str], object]) -> list[StoredObject]:
        now_s, found = time.time(), []
        with _told("listed", "*", self._root):
            if not self._root.exists():
                return []
            with os.scandir(self._root) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # deleted by another node
                        if wanted(entry.name):
                            about = entry.stat()
                            age_s = max(0.0, now_s - about.st_mtime)
                            found.append(StoredObject(entry.name, about.st_size, age_s))
        return found

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an object: 64 hexadecimal digits are")
        return self._root / name

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def tend_objects(store: Store, objects: ObjectStore) -> None:
    """Deletes what is condemned, and sweeps, until cancelled. On every node that has `objects`."""
    rounds = 0
    while True:
        try:
            if rounds % ROUNDS_PER_LISTING == 0:
                await condemn_unnamed(store, objects)
                await objects.tidy(UNNAMED_KEPT_S)
            await delete_condemned(store, objects)
        except RagmeshError as error:
            _LOG.info("objects are swept later: %s", error.message)
        except Exception:
            _LOG.exception("sweeping the objects failed and is tried again later")
        rounds += 1
        await asyncio.sleep(ROUND_S)


async def condemn_unnamed(
    store: Store, objects: ObjectStore, *, kept_s: float = UNNAMED_KEPT_S
) -> int:
    """Condemn objects older than `kept_s` that no segment of any collection names: who put them
    did not live to publish them. How many."""
    old = [bytes.fromhex(o.name) async for o in objects.names() if o.age_s > kept_s]
    condemned = 0
    for start in range(0, len(old), _NAMES_AT_ONCE):
        async with store.system() as tx:
            condemned += await cleanup.condemn_objects(tx, old[start : start + _NAMES_AT_ONCE])
    return condemned


async def delete_condemned(store: Store, objects: ObjectStore) -> int:
    """Delete the objects that are condemned, some at a time; how many. One that cannot be deleted
    stays condemned, for the next round."""
    total = 0
    while True:
        deleted, refused = [], False
        async with store.system() as tx:
            names = await cleanup.take_condemned(tx)
            for name in names:
                try:
                    await objects.delete(name.hex())
                    deleted.append(name)
                except ObjectStoreFailed as error:
                    refused = True
                    _LOG.warning("%s", error.message)
            await cleanup.pardon_objects(tx, deleted)
        total += len(deleted)
        if refused or not names:
            return total


def _transfer(source: Path, target: Path, name: str, *, as_new: bool) -> None:
    """Make `target` a durable file with the bytes of `source`, all at once or not at all. With
    `as_new` its age counts from now, whenever `source` was written."""
    part = target.with_name(f"{_TEMPORARY}{target.name}-{secrets.token_hex(8)}")
    try:
        digest = _link(source, part, as_new) or _copy(source, part)
        if digest != name:
            raise DataLoss(
                f"{source} should be object {name} and its bytes say {digest}. Build it again.",
                metadata={"path": str(source), "object": name, "sha256": digest},
            )
        part.replace(target)
    finally:
        # Also after a rename: of two names of one file it removes neither.
        part.unlink(missing_ok=True)
    _sync_directory(target.parent)


def _link(source: Path, part: Path, as_new: bool) -> str | None:
    """The file's hash once it has a second name and is on the disk; None where it cannot have."""
    try:
        os.link(source, part)
        if as_new:
            os.utime(part)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        part.unlink(missing_ok=True)
        return None
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _copy(source: Path, part: Path) -> str:
    """The hash of what was copied and is on the disk."""
    hashed = hashlib.sha256()
    with source.open("rb") as read, open(part, "xb", opener=_private) as written:
        for piece in _pieces(read):
            hashed.update(piece)
            written.write(piece)
        written.flush()
        os.fchmod(written.fileno(), 0o400)
        os.fsync(written.fileno())
    return hashed.hexdigest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _told(done: str, name: str, root: Path) -> Iterator[None]:
    """Says what the system refused, and what helps."""
    try:
        yield
    except OSError as error:
        problem = errno.errorcode.get(error.errno or 0, "unknown")
        kind, advice = ObjectStoreFailed, "See the system's log"
        if error.errno in _FULL:
            kind = ObjectStoreFull
            advice = "Free some space, or set RAGMESH_INDEX__OBJECTS_DIR to a larger disk"
        raise kind(
            f"Object {name} of {root} could not be {done}: {error.strerror} "
            f"({error.filename or root}). {advice}; it is tried again.",
            metadata={
                "object": name,
                "path": str(error.filename or root),
                "root": str(root),
                "problem": problem,
            },
            retry_after_s=RETRY_AFTER_S,
        ) from error
