"""A document's file is there, whole, as long as a document has it, and goes with the last one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from engine.errors import DataLoss
from services.documents import files as files_module
from services.documents.files import Files
from services.objects.directory import DirectoryStore
from services.objects.seam import ObjectMissing
from services.objects.sweeping import condemn_unnamed, delete_condemned
from services.store.cleanup import DOCUMENT_FILES
from services.store.collections import Collection, delete_collection
from services.store.contents import object_name
from services.store.documents import delete_document
from services.store.store import Store
from tests.services.documents.given_files import (
    content_of,
    left,
    objects_of,
    read,
    store_as_before,
    store_document,
)
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio

DATA = np.random.default_rng(3).bytes((3 << 20) + 17)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects" / "files"


@pytest_asyncio.fixture
async def objects(root: Path) -> AsyncIterator[DirectoryStore]:
    made = DirectoryStore(root)
    yield made
    made.close()


@pytest_asyncio.fixture
async def files(store: Store, objects: DirectoryStore) -> Files:
    return Files(store, objects)


@pytest_asyncio.fixture
async def collection(store: Store) -> Collection:
    return await make_collection(store, "one", "c")


async def drop(store: Store, collection: Collection, name: str) -> None:
    async with store.transaction(collection.tenant) as tx:
        await delete_document(tx, collection, name)


async def swept(store: Store, objects: DirectoryStore) -> int:
    return await delete_condemned(store, objects, kind=DOCUMENT_FILES)


async def test_a_file_comes_back_whole_and_a_damaged_one_is_noticed(
    store: Store, files: Files, collection: Collection, root: Path
) -> None:
    await store_document(store, files, collection, "x", DATA)
    await store_document(store, files, collection, "empty", b"")
    assert await read(files, "one", DATA) == DATA
    assert await read(files, "one", b"") == b""
    stored = root / object_name("one", content_of(DATA).sha256)
    assert len(left(root)) == 2 and stored.stat().st_size == len(DATA)
    stored.unlink()
    stored.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(DataLoss):
        await read(files, "one", DATA)


async def test_equal_files_lie_once_and_go_with_the_last_document(
    store: Store, files: Files, objects: DirectoryStore, collection: Collection
) -> None:
    for name in ("x", "y"):
        await store_document(store, files, collection, name, DATA)
    other = await make_collection(store, "one", "d")
    await store_document(store, files, other, "x", DATA)
    assert len(await objects_of(objects)) == 1
    await drop(store, collection, "x")
    async with store.transaction("one") as tx:
        await delete_collection(tx, "d")
    assert await swept(store, objects) == 0
    assert await read(files, "one", DATA) == DATA
    await drop(store, collection, "y")
    assert await swept(store, objects) == 1
    assert await objects_of(objects) == set()
    with pytest.raises(ObjectMissing):
        await read(files, "one", DATA)


async def test_a_file_whose_object_was_lost_is_mended_by_the_next_that_is_equal(
    store: Store, files: Files, collection: Collection, root: Path
) -> None:
    await store_document(store, files, collection, "x", DATA)
    (root / object_name("one", content_of(DATA).sha256)).unlink()
    with pytest.raises(ObjectMissing):
        await read(files, "one", DATA)
    await store_document(store, files, collection, "y", DATA)
    assert await read(files, "one", DATA) == DATA


async def test_tenants_share_no_object(
    store: Store, files: Files, objects: DirectoryStore, collection: Collection
) -> None:
    other = await make_collection(store, "two", "c")
    for where in (collection, other):
        await store_document(store, files, where, "x", DATA)
    assert len(await objects_of(objects)) == 2
    await drop(store, other, "x")
    assert await swept(store, objects) == 1
    assert await read(files, "one", DATA) == DATA


async def test_a_file_that_is_not_what_was_said_is_refused_whole(
    store: Store, files: Files, root: Path
) -> None:
    async def named() -> None:
        raise AssertionError("no row may name it")

    async with files.incoming() as file:
        await file.take(b"1")
        await file.whole()
        with pytest.raises(DataLoss):
            await files.kept("one", content_of(b"2"), file.path, named)
    assert left(root) == []


async def test_who_is_cut_off_while_a_file_comes_leaves_nothing(files: Files, root: Path) -> None:
    begun = asyncio.Event()

    async def upload() -> None:
        async with files.incoming() as file:
            while True:
                await file.take(DATA)
                begun.set()

    uploads = [asyncio.create_task(upload()) for _ in range(8)]
    await begun.wait()
    assert left(root) != []
    for task in uploads:
        task.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)
    assert left(root) == []


async def test_a_file_that_no_row_came_to_name_goes_when_it_is_old(
    store: Store, files: Files, objects: DirectoryStore, collection: Collection, root: Path
) -> None:
    await store_document(store, files, collection, "x", DATA)

    async def killed() -> None:
        raise KeyboardInterrupt

    async with files.incoming() as file:
        await file.take(b"lost")
        await file.whole()
        with pytest.raises(KeyboardInterrupt):
            await files.kept("one", content_of(b"lost"), file.path, killed)
    assert len(await objects_of(objects)) == 2
    assert await condemn_unnamed(store, objects, kind=DOCUMENT_FILES) == 0
    for name in left(root):
        os.utime(root / name, (1, 1))
    assert await condemn_unnamed(store, objects, kind=DOCUMENT_FILES) == 1
    # While it is condemned the same file comes again: it is named, and stays.
    await store_document(store, files, collection, "again", b"lost")
    assert await swept(store, objects) == 0
    assert await read(files, "one", b"lost") == b"lost"


async def test_deleting_and_sweeping_while_others_upload_the_same_loses_nothing(
    store: Store, files: Files, objects: DirectoryStore, collection: Collection
) -> None:
    data, done = b"The same for all.", asyncio.Event()

    async def life(worker: int) -> None:
        for number in range(8):
            name = f"{worker}-{number}"
            await store_document(store, files, collection, name, data)
            assert await read(files, "one", data) == data  # it can be read at any moment
            await drop(store, collection, name)

    async def sweeper() -> None:
        while not done.is_set():
            await condemn_unnamed(store, objects, kept_s=-1.0, kind=DOCUMENT_FILES)
            await swept(store, objects)

    sweeping = [asyncio.create_task(sweeper()) for _ in range(2)]
    await asyncio.gather(*map(life, range(5)))
    done.set()
    await asyncio.gather(*sweeping)
    await condemn_unnamed(store, objects, kept_s=-1.0, kind=DOCUMENT_FILES)
    await swept(store, objects)
    assert await objects_of(objects) == set()


async def _in_rows(store: Store) -> list[tuple[Any, ...]]:
    """Hashes of files that are not in the object store."""
    async with store.system() as tx:
        return await tx.rows("SELECT sha256 FROM contents WHERE object IS NULL")


async def test_files_in_rows_are_read_and_moved_by_a_node_that_serves(
    store: Store,
    files: Files,
    objects: DirectoryStore,
    collection: Collection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files_module, "MOVE_ROUND_S", 0.05)
    old = [DATA, DATA[: 1 << 20], b"", b"short"]
    for number, data in enumerate(old):
        await store_as_before(store, collection, f"d{number}", data)
    await store_as_before(store, collection, "broken", b"broken")
    async with store.system() as tx:
        await tx.run(
            "UPDATE content_chunks SET data = 'brokem' WHERE sha256 = %s",
            (content_of(b"broken").sha256,),
        )
    assert await read(files, "one", DATA) == DATA
    files.start()
    async with asyncio.timeout(20):
        while len(await _in_rows(store)) > 1:
            await asyncio.sleep(0.02)
    await files.close()
    reader = DirectoryStore(objects.scratch)
    for data in old:
        assert await read(Files(store, reader), "one", data) == data
    async with store.system() as tx:
        pieces = await tx.rows("SELECT sha256 FROM content_chunks")
    broken = [(content_of(b"broken").sha256,)]
    assert await _in_rows(store) == pieces == broken  # kept for whoever can mend it
    for number in range(len(old)):
        await drop(store, collection, f"d{number}")
    assert await swept(store, reader) == len(old)
    reader.close()
