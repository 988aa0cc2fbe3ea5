"""Objects in a directory that the nodes share."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from services.objects.seam import (
    RETRY_AFTER_S,
    ObjectMissing,
    ObjectStoreFailed,
    ObjectStoreFull,
    StoredObject,
    check_name,
    damaged,
    is_name,
)

T = TypeVar("T")

TEMPORARY = ".part-"
"""How the names of files begin that are not whole yet."""
PIECE_BYTES = 1 << 20
"""What is read, or written, at once."""
_THREADS = 4  # one may hash a large object while another one is small
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})


class DirectoryStore:
    """A directory that the nodes share. On one filesystem nothing is copied: files are linked."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    def close(self) -> None:
        """Ends its threads, when what they do is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def scratch(self) -> Path:
        """See ObjectStore: the directory itself, so that what is put need not be copied."""
        return self._root

    async def put(self, name: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""

        def work() -> None:
            with told("put", name, self._root):
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                _transfer(path, self._file(name), name, sha256, as_new=True)

        await self._run(work)

    async def fetch(self, name: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""

        def work() -> None:
            with told("fetched", name, self._root):
                _transfer(self._file(name), path, name, sha256, as_new=False)

        try:
            await self._run(work)
        except ObjectStoreFailed as error:
            if error.metadata["problem"] == "ENOENT" and not await self.exists(name):
                raise _missing(name, self._root) from error
            raise

    async def read(self, name: str, *, sha256: str = "") -> AsyncGenerator[bytes, None]:
        """See ObjectStore."""
        try:
            with told("read", name, self._root):
                file = await self._run(lambda: open(self._file(name), "rb"))  # noqa: SIM115
        except ObjectStoreFailed as error:
            if error.metadata["problem"] == "ENOENT":
                raise _missing(name, self._root) from error
            raise
        hashed = hashlib.sha256()

        def piece() -> bytes:
            with told("read", name, self._root):
                data = file.read(PIECE_BYTES)
            hashed.update(data)
            return data

        try:
            while data := await self._run(piece):
                yield data
        finally:
            file.close()
        if hashed.hexdigest() != (sha256 or name):
            raise damaged(str(self._file(name)), name, sha256 or name, hashed.hexdigest())

    async def exists(self, name: str) -> bool:
        """See ObjectStore."""

        def work() -> bool:
            with told("looked up", name, self._root):
                try:
                    self._file(name).stat()
                except FileNotFoundError:
                    return False
                return True

        return await self._run(work)

    async def delete(self, name: str) -> None:
        """See ObjectStore."""

        def work() -> None:
            with told("deleted", name, self._root):
                self._file(name).unlink(missing_ok=True)

        await self._run(work)

    async def names(self) -> AsyncIterator[StoredObject]:
        """See ObjectStore."""
        for found in await self._run(lambda: self._listed(is_name)):
            yield found

    async def tidy(self, age_s: float) -> int:
        """See ObjectStore."""

        def work() -> int:
            left = [
                found
                for found in self._listed(lambda name: name.startswith(TEMPORARY))
                if found.age_s > age_s
            ]
            for found in left:
                with told("deleted", found.name, self._root):
                    (self._root / found.name).unlink(missing_ok=True)
            return len(left)

        return await self._run(work)

    def _listed(self, wanted: Callable[[str], object]) -> list[StoredObject]:
        now_s, found = time.time(), []
        with told("listed", "*", self._root):
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
        return self._root / check_name(name)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def refused(done: str, what: str, root: Path, error: OSError) -> ObjectStoreFailed:
    """What the system refused, and what helps."""
    problem = errno.errorcode.get(error.errno or 0, "unknown")
    kind, advice = ObjectStoreFailed, "See the system's log"
    if error.errno in _FULL:
        kind = ObjectStoreFull
        advice = "Free some space, or set RAGMESH_OBJECTS__DIRECTORY to a larger disk"
    return kind(
        f"{what} could not be {done}: {error.strerror} ({error.filename or root}). {advice}; "
        "it is tried again.",
        metadata={"path": str(error.filename or root), "root": str(root), "problem": problem},
        retry_after_s=RETRY_AFTER_S,
    )


def _missing(name: str, root: Path) -> ObjectMissing:
    return ObjectMissing(
        f"Object {name} is not in {root}. Where another node made it, give all nodes the same "
        "RAGMESH_OBJECTS__DIRECTORY.",
        metadata={"object": name, "path": str(root)},
    )


def _transfer(source: Path, target: Path, name: str, sha256: str, *, as_new: bool) -> None:
    """Make `target` a durable file with the bytes of `source`, all at once or not at all. With
    `as_new` its age counts from now, whenever `source` was written."""
    part = target.with_name(f"{TEMPORARY}{target.name}-{secrets.token_hex(8)}")
    try:
        digest = _link(source, part, as_new) or _copy(source, part)
        if digest != (sha256 or name):
            raise damaged(str(source), name, sha256 or name, digest)
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
    while piece := file.read(PIECE_BYTES):
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
def told(done: str, name: str, root: Path) -> Iterator[None]:
    """Says what the system refused, of which object."""
    try:
        yield
    except OSError as error:
        failed = refused(done, f"Object {name} of {root}", root, error)
        failed.metadata["object"] = name
        raise failed from error
