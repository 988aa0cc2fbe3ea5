"""Objects in a bucket of S3, or of what speaks its protocol.

Bytes pass in pieces of 8 MiB, so that each request is short: it can be tried again by itself, and
one that hangs is noticed. What a store says goes to nobody as it came: it may name keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from services.objects.directory import TEMPORARY, refused
from services.objects.seam import (
    RETRY_AFTER_S,
    ObjectMissing,
    ObjectStoreFailed,
    StoredObject,
    check_name,
    damaged,
    is_name,
)

if TYPE_CHECKING:
    from obstore.store import S3Config

T = TypeVar("T")

PIECE_BYTES = 8 << 20
"""Of one request; S3 takes parts of 5 MiB and more, 10,000 of an object."""
PARTS_AT_ONCE = 2
CONNECT_S = 3.0
REQUEST_S = 60.0
"""Longest single request."""
RETRIES_MAX, RETRY_S = 3, 8.0
"""How often, and for how long, a request is tried that the store did not answer or could not."""
BYTES_PER_S_MIN = 256 << 10
"""Slower than this, putting an object is given up."""
_THREADS = 2
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_STATUS = re.compile(r"\b([45]\d\d) [A-Z][a-z]+")
_ADVICE = {
    "NoSuchBucket": "Make the bucket, or name another in RAGMESH_OBJECTS__S3_BUCKET",
    "InvalidAccessKeyId": "Check RAGMESH_OBJECTS__S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "Check RAGMESH_OBJECTS__S3_SECRET_ACCESS_KEY",
    "AccessDenied": "Let the key read, write, list and delete in the bucket",
    "unreachable": "Check RAGMESH_OBJECTS__S3_ENDPOINT, and whether the store runs",
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects are, and how the store is reached. Without a key, AWS's own variables, or the
    machine's role, are used."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = ""

    def __repr__(self) -> str:
        return f"s3://{self.name}/{self.prefix}"


class BucketStore:
    """A bucket. Files to put are made in `scratch`, a directory of this node's own."""

    def __init__(self, bucket: Bucket, scratch: Path) -> None:
        self._where = repr(bucket)
        self._scratch = scratch
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")
        self._store = _client(bucket)

    @property
    def scratch(self) -> Path:
        """See ObjectStore."""
        return self._scratch

    def close(self) -> None:
        """Ends its threads, when what they do is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put(self, name: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        check_name(name)
        size_bytes, digest = await self._run(lambda: _hashed(path, name))
        if digest != (sha256 or name):
            raise damaged(str(path), name, sha256 or name, digest)
        async with self._told("put", name, size_bytes / BYTES_PER_S_MIN):
            await obstore.put_async(
                self._store,
                name,
                path,
                use_multipart=size_bytes > PIECE_BYTES,
                chunk_size=PIECE_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    async def fetch(self, name: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        part = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(8)}")
        try:
            async with contextlib.aclosing(self.read(name, sha256=sha256)) as pieces:
                with _disk("fetched", name, path.parent):
                    file = await self._run(lambda: open(part, "xb", opener=_private))  # noqa: SIM115
                with file:
                    async for piece in pieces:
                        with _disk("fetched", name, path.parent):
                            await self._run(lambda data=piece: file.write(data))  # type: ignore[misc]
                    with _disk("fetched", name, path.parent):
                        await self._run(lambda: _kept(file.fileno()))
            with _disk("fetched", name, path.parent):
                await self._run(lambda: part.replace(path))
        finally:
            await self._run(lambda: part.unlink(missing_ok=True))

    async def read(self, name: str, *, sha256: str = "") -> AsyncGenerator[bytes, None]:
        """See ObjectStore."""
        check_name(name)
        try:
            async with self._told("read", name):
                about = await obstore.head_async(self._store, name)
        except FileNotFoundError as error:
            raise await self._missing(name) from error
        hashed, start = hashlib.sha256(), 0
        while start < about["size"]:
            length = min(PIECE_BYTES, about["size"] - start)
            try:
                async with self._told("read", name):
                    found = await obstore.get_range_async(
                        self._store, name, start=start, length=length
                    )
            except FileNotFoundError as error:
                raise await self._missing(name) from error
            piece = bytes(found)
            await self._run(lambda data=piece: hashed.update(data))  # type: ignore[misc]
            start += length
            yield piece
        if hashed.hexdigest() != (sha256 or name):
            raise damaged(self._where, name, sha256 or name, hashed.hexdigest())

    async def exists(self, name: str) -> bool:
        """See ObjectStore."""
        try:
            async with self._told("looked up", check_name(name)):
                await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return False
        return True

    async def delete(self, name: str) -> None:
        """See ObjectStore."""
        with contextlib.suppress(FileNotFoundError):
            async with self._told("deleted", check_name(name)):
                await obstore.delete_async(self._store, name)

    async def names(self) -> AsyncIterator[StoredObject]:
        """See ObjectStore."""
        now = datetime.now(UTC)
        pages = obstore.list(self._store, chunk_size=1_000)
        while True:
            async with self._told("listed", "*"):
                page = await anext(pages, None)
            if page is None:
                return
            for found in page:
                if is_name(found["path"]):
                    age_s = max(0.0, (now - found["last_modified"]).total_seconds())
                    yield StoredObject(found["path"], found["size"], age_s)

    async def tidy(self, age_s: float) -> int:
        """See ObjectStore. Parts of uploads that were never finished are the bucket's business: a
        rule of its lifecycle (AbortIncompleteMultipartUpload) removes them."""

        def work() -> int:
            removed = 0
            for path in self._scratch.glob(f"{TEMPORARY}*"):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > age_s:
                        path.unlink()
                        removed += 1
            return removed

        return await self._run(work)

    async def _missing(self, name: str) -> ObjectMissing:
        """Raises ObjectStoreFailed where the bucket itself is not there: then nothing is lost."""
        async with self._told("listed", "*"):
            await anext(obstore.list(self._store, chunk_size=1), None)
        return ObjectMissing(
            f"Object {name} is not in {self._where}. Do all nodes use the same bucket and prefix?",
            metadata={"object": name, "path": self._where},
        )

    @contextlib.asynccontextmanager
    async def _told(self, done: str, name: str, more_s: float = 0.0) -> AsyncIterator[None]:
        """Says what the store refused, and what helps, without its own words."""
        try:
            async with asyncio.timeout(REQUEST_S + RETRY_S + more_s):
                yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._failed(done, name, "NoSuchBucket") from None
            raise
        except TimeoutError:
            raise self._failed(done, name, "unreachable") from None
        except (BaseError, OSError) as error:
            raise self._failed(done, name, _problem(str(error))) from None

    def _failed(self, done: str, name: str, problem: str) -> ObjectStoreFailed:
        advice = _ADVICE.get(problem, "See what the store itself logs")
        return ObjectStoreFailed(
            f"Object {name} of {self._where} could not be {done}: {problem}. {advice}; it is "
            "tried again.",
            metadata={"object": name, "root": self._where, "problem": problem},
            retry_after_s=RETRY_AFTER_S,
        )

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _client(bucket: Bucket) -> S3Store:
    config: S3Config = {
        "region": bucket.region,
        # Stores other than AWS's rarely have a host for each bucket.
        "virtual_hosted_style_request": not bucket.endpoint,
    }
    if bucket.endpoint:
        config["endpoint"] = bucket.endpoint
    if bucket.access_key_id:
        config["access_key_id"] = bucket.access_key_id
        config["secret_access_key"] = bucket.secret_access_key
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options={
            "allow_http": bucket.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        retry_config={
            "max_retries": RETRIES_MAX,
            "retry_timeout": timedelta(seconds=RETRY_S),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _problem(said: str) -> str:
    """The one word of what a store, or the client, said, that is safe to show."""
    if code := _CODE.search(said):
        return code[1]
    if status := _STATUS.search(said):
        return f"HTTP status {status[1]}"
    return "unreachable"


def _hashed(path: Path, name: str) -> tuple[int, str]:
    with _disk("put", name, path.parent), path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _kept(descriptor: int) -> None:
    os.fchmod(descriptor, 0o400)
    os.fsync(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _disk(done: str, name: str, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(done, f"Object {name}", root, error) from error
