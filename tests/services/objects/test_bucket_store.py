"""A bucket keeps objects as a directory does: whole, or with an error that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from pydantic import SecretStr

from engine.errors import DataLoss
from services.config import ObjectSettings, Settings
from services.documents.files import Files
from services.errors import row_of, to_status
from services.objects import s3
from services.objects.opening import open_objects
from services.objects.s3 import Bucket, BucketStore
from services.objects.seam import ObjectMissing, ObjectStoreFailed, ObjectStoreFull
from services.objects.sweeping import condemn_unnamed, delete_condemned
from services.store.cleanup import DOCUMENT_FILES
from services.store.documents import delete_document, list_documents
from services.store.store import Store
from tests.services.documents.given_files import read, store_document
from tests.services.objects.bucket_server import KEY, SECRET, BucketServer, Way
from tests.services.retrieval.stored_objects import make_file
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    started = BucketServer(tmp_path_factory.mktemp("moto") / "moto.log")
    yield started
    started.stop()


@pytest_asyncio.fixture
async def way(s3_server: BucketServer) -> AsyncIterator[Way]:
    made = Way(s3_server.url)
    await made.open()
    yield made
    await made.shut()


@pytest.fixture
def bucket(s3_server: BucketServer, way: Way, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(s3, "RETRY_S", 1.0)
    name = f"b-{os.urandom(6).hex()}"
    s3_server.make_bucket(name)
    return Bucket(name, "mesh/files", way.url, "us-east-1", KEY, SECRET)


@pytest_asyncio.fixture
async def objects(bucket: Bucket, tmp_path: Path) -> AsyncIterator[BucketStore]:
    made = BucketStore(bucket, tmp_path / "scratch")
    yield made
    made.close()


async def fetched(objects: BucketStore, name: str, path: Path) -> bytes:
    await objects.fetch(name, path)
    return await asyncio.to_thread(path.read_bytes)


def left(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


@pytest.mark.parametrize("size", [0, 10, s3.PIECE_BYTES, 3 * s3.PIECE_BYTES + 17])
async def test_what_was_put_is_fetched_read_listed_and_deleted(
    objects: BucketStore, tmp_path: Path, size: int
) -> None:
    name, path = make_file(tmp_path, os.urandom(size))
    data = path.read_bytes()
    assert [found async for found in objects.names()] == []
    assert not await objects.exists(name)
    for _ in range(2):  # the second time is the same as the first
        await objects.put(name, path)
    (found,) = [found async for found in objects.names()]
    assert (found.name, found.size_bytes) == (name, size)
    assert found.age_s < 60
    assert await objects.exists(name)
    assert await fetched(objects, name, tmp_path / "fetched") == data
    assert b"".join([piece async for piece in objects.read(name)]) == data
    assert left(tmp_path) == ["built", "fetched"]
    await objects.delete(name)
    await objects.delete(name)
    assert not await objects.exists(name)
    with pytest.raises(ObjectMissing):
        await objects.fetch(name, tmp_path / "again")


async def test_rooms_of_a_bucket_do_not_see_each_other(bucket: Bucket, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        objects=ObjectSettings(
            s3_bucket=bucket.name,
            s3_endpoint=bucket.endpoint,
            s3_access_key_id=KEY,
            s3_secret_access_key=SecretStr(SECRET),
        ),
    )
    files, segments = open_objects(settings, "files"), open_objects(settings, "segments")
    name, path = make_file(tmp_path, b"x")
    await files.put(name, path)
    assert [found.name async for found in files.names()] == [name]
    assert [found.name async for found in segments.names()] == []
    files.close()
    segments.close()


async def test_what_is_not_what_its_hash_says_is_neither_put_nor_fetched(
    objects: BucketStore, tmp_path: Path
) -> None:
    name, path = make_file(tmp_path, b"good")
    _, other = make_file(tmp_path, b"else", "other")
    with pytest.raises(DataLoss):
        await objects.put(name, other)
    assert not await objects.exists(name)
    await objects.put(name, path)
    wrong = hashlib.sha256(b"else").hexdigest()
    with pytest.raises(DataLoss):
        await objects.fetch(name, tmp_path / "fetched", sha256=wrong)
    assert left(tmp_path) == ["built", "other"]


async def test_a_store_that_is_down_is_told_at_once_and_works_again_when_it_is_back(
    objects: BucketStore, way: Way, tmp_path: Path
) -> None:
    name, path = make_file(tmp_path, os.urandom(3 * s3.PIECE_BYTES))
    await objects.put(name, path)
    await way.shut()
    for call in (
        objects.put(name, path),
        objects.fetch(name, tmp_path / "fetched"),
        objects.exists(name),
        objects.delete(name),
    ):
        with pytest.raises(ObjectStoreFailed, match="RAGMESH_OBJECTS__S3_ENDPOINT") as caught:
            async with asyncio.timeout(10):
                await call
        assert row_of(caught.value).reason == "STORE_UNAVAILABLE"
    assert left(tmp_path) == ["built"]
    await way.open()
    assert await fetched(objects, name, tmp_path / "fetched") == path.read_bytes()


async def test_a_store_that_says_nothing_is_given_up(
    bucket: Bucket, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "REQUEST_S", 0.3)
    objects = BucketStore(bucket, tmp_path / "scratch")
    name, _ = make_file(tmp_path, b"x")
    way.silent = True
    with pytest.raises(ObjectStoreFailed):
        async with asyncio.timeout(10):
            await objects.exists(name)
    way.silent = False
    assert not await objects.exists(name)
    objects.close()


async def test_a_connection_that_is_cut_while_a_large_object_is_put_leaves_none(
    objects: BucketStore, way: Way, tmp_path: Path
) -> None:
    name, path = make_file(tmp_path, os.urandom(4 * s3.PIECE_BYTES))
    way.cut_after_bytes = s3.PIECE_BYTES // 2
    with pytest.raises(ObjectStoreFailed):
        await objects.put(name, path)
    way.cut_after_bytes = 0
    assert not await objects.exists(name)
    assert [found async for found in objects.names()] == []
    await objects.put(name, path)
    assert await fetched(objects, name, tmp_path / "fetched") == path.read_bytes()


async def test_a_missing_bucket_is_no_missing_object(bucket: Bucket, tmp_path: Path) -> None:
    objects = BucketStore(replace(bucket, name="nowhere"), tmp_path / "scratch")
    name, path = make_file(tmp_path, b"x")
    for call in (objects.put(name, path), objects.fetch(name, tmp_path / "fetched")):
        with pytest.raises(ObjectStoreFailed, match="RAGMESH_OBJECTS__S3_BUCKET") as caught:
            await call
        assert caught.value.metadata["problem"] == "NoSuchBucket"
    objects.close()


async def test_wrong_keys_are_told_and_named_nowhere(
    objects: BucketStore,
    s3_server: BucketServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    name, path = make_file(tmp_path, b"x")
    s3_server.check_keys(True)
    try:
        calls = (objects.put(name, path), objects.read(name).__anext__(), objects.exists(name))
        for call in calls:
            with pytest.raises(ObjectStoreFailed) as caught:
                await call
            error = caught.value
            told = f"{error} {error.metadata} {to_status(error, 'r')} {error.__cause__}"
            assert KEY not in told and SECRET not in told
        assert KEY not in caplog.text and SECRET not in caplog.text
        assert SECRET not in repr(objects) + str(vars(objects))
    finally:
        s3_server.check_keys(False)
    await objects.put(name, path)


async def test_a_full_disk_is_told_where_an_object_is_fetched(
    objects: BucketStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name, path = make_file(tmp_path, os.urandom(1 << 20))
    await objects.put(name, path)
    monkeypatch.setattr(s3, "_kept", full)
    with pytest.raises(ObjectStoreFull, match="Free some space"):
        await objects.fetch(name, tmp_path / "fetched")
    assert left(tmp_path) == ["built"]


async def test_documents_of_a_bucket_outlive_its_absence(
    store: Store, objects: BucketStore, way: Way
) -> None:
    files, data = Files(store, objects), os.urandom(2 * s3.PIECE_BYTES + 5)
    collection = await make_collection(store, "one", "c")
    await store_document(store, files, collection, "before", data)
    await way.shut()
    with pytest.raises(ObjectStoreFailed):
        await store_document(store, files, collection, "during", b"other")
    with pytest.raises(ObjectStoreFailed):
        await read(files, "one", data)
    async with store.transaction("one") as tx:
        assert [d.id for d in await list_documents(tx, collection)] == ["before"]
        await delete_document(tx, collection, "before")  # what it had goes when it can
    assert await delete_condemned(store, objects, kind=DOCUMENT_FILES) == 0
    await way.open()
    await store_document(store, files, collection, "after", data)
    assert await delete_condemned(store, objects, kind=DOCUMENT_FILES) == 0
    assert await read(files, "one", data) == data
    async with store.transaction("one") as tx:
        await delete_document(tx, collection, "after")
    assert await delete_condemned(store, objects, kind=DOCUMENT_FILES) == 1
    assert await condemn_unnamed(store, objects, kept_s=-1.0, kind=DOCUMENT_FILES) == 0
    assert [found async for found in objects.names()] == []
    assert not list(objects.scratch.iterdir())


async def test_large_objects_pass_in_bounded_memory(objects: BucketStore, tmp_path: Path) -> None:
    name, path = make_file(tmp_path, os.urandom(1 << 20) * 64)
    process = psutil.Process()
    before, most = process.memory_info().rss, 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, process.memory_info().rss - before)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    await objects.put(name, path)
    await objects.fetch(name, tmp_path / "fetched")
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert (tmp_path / "fetched").stat().st_size == path.stat().st_size
    assert most < 48 << 20, most
