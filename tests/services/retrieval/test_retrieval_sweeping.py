"""What nothing names any more goes; what a current segment names is there, whoever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.objects.directory import DirectoryStore
from services.objects.seam import ObjectStoreFailed
from services.objects.sweeping import condemn_unnamed, delete_condemned, tend_objects
from services.store import cleanup
from services.store.collections import Collection, delete_collection
from services.store.points import Watermark, apply_batch
from services.store.segments import NewSegment, Outdated, publish, segments_at
from services.store.store import Store
from tests.services.retrieval.stored_objects import make_file, seal
from tests.services.store.stored import Database, make_collection, point

pytestmark = pytest.mark.asyncio

_DYING = """
import asyncio, os, sys
from pathlib import Path
from services.objects.directory import DirectoryStore
from services.objects.sweeping import delete_condemned
from services.store.store import Store
url, root, step, name, path = sys.argv[1:]
class Dying(DirectoryStore):
    async def delete(self, name):
        if step == "after delete":
            await super().delete(name)
        os.kill(os.getpid(), 9)
async def main():
    store = await Store.open(url)
    objects = Dying(Path(root))
    if step == "after put":
        await objects.put(name, Path(path))
        os.kill(os.getpid(), 9)
    await delete_condemned(store, objects)
asyncio.run(main())
"""


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    made = DirectoryStore(tmp_path / "objects")
    yield made
    made.close()


async def put(objects: DirectoryStore, tmp_path: Path, data: str) -> str:
    name, path = make_file(tmp_path, data.encode())
    await objects.put(name, path)
    return name


async def purge(store: Store, kept_s: float) -> int:
    async with store.system() as tx:
        return await cleanup.purge_segments(tx, kept_s=kept_s)


async def stored(objects: DirectoryStore) -> set[str]:
    return {found.name async for found in objects.names()}


async def named(store: Store, collection: Collection) -> set[str]:
    async with store.transaction(collection.tenant) as tx:
        return {row.name for row in await segments_at(tx, collection)}


async def test_a_retired_segment_goes_after_its_grace_and_a_current_one_stays(
    store: Store, objects: DirectoryStore, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    twin = await make_collection(store, "two", "c")
    old, shared, new = [await put(objects, tmp_path, text) for text in ("old", "shared", "new")]
    for name in (old, shared):
        assert isinstance(await seal(store, collection, objects, name), Watermark)
    assert isinstance(await seal(store, twin, objects, shared), Watermark)
    assert isinstance(await seal(store, collection, objects, new, old, shared), Watermark)
    assert await purge(store, cleanup.SEGMENTS_KEPT_S) == 0
    assert await delete_condemned(store, objects) == 0
    assert await purge(store, 0.0) == 2
    assert await delete_condemned(store, objects) == 1
    assert await stored(objects) == {shared, new}  # of which one is another tenant's
    assert await named(store, collection) == {new}


async def test_the_segments_of_a_deleted_collection_go(
    store: Store, objects: DirectoryStore, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    await seal(store, collection, objects, await put(objects, tmp_path, "x"))
    async with store.transaction("one") as tx:
        await delete_collection(tx, "c")
    assert await purge(store, cleanup.SEGMENTS_KEPT_S) == 1
    assert await delete_condemned(store, objects) == 1
    assert await stored(objects) == set()


async def test_an_object_whose_builder_was_killed_goes_when_it_is_old(
    store: Store, database: Database, objects: DirectoryStore, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    current = await put(objects, tmp_path, "current")
    await seal(store, collection, objects, current)
    name, path = make_file(tmp_path, b"never published")
    await die(database, tmp_path, "after put", name, path)
    assert await stored(objects) == {current, name}
    assert await condemn_unnamed(store, objects) == 0
    for entry in (tmp_path / "objects").iterdir():
        os.utime(entry, (1, 1))
    assert await condemn_unnamed(store, objects) == 1
    refused = await seal(store, collection, objects, name)  # it is there, and on its way out
    assert isinstance(refused, Outdated) and "about to be deleted" in refused.reason
    assert await delete_condemned(store, objects) == 1
    assert await stored(objects) == {current}
    await objects.put(name, path)
    assert isinstance(await seal(store, collection, objects, name), Watermark)
    assert await named(store, collection) <= await stored(objects)


@pytest.mark.parametrize("step", ["before delete", "after delete"])
async def test_a_sweep_that_was_killed_is_finished_by_the_next(
    store: Store, database: Database, objects: DirectoryStore, tmp_path: Path, step: str
) -> None:
    collection = await make_collection(store, "one", "c")
    name, path = make_file(tmp_path, b"x")
    await objects.put(name, path)
    assert await condemn_unnamed(store, objects, kept_s=-1.0) == 1
    await die(database, tmp_path, step, name, path)
    await objects.put(name, path)
    assert isinstance(await seal(store, collection, objects, name), Outdated)
    assert await delete_condemned(store, objects) == 1
    assert await stored(objects) == set()
    await objects.put(name, path)
    assert isinstance(await seal(store, collection, objects, name), Watermark)
    assert await condemn_unnamed(store, objects, kept_s=-1.0) == 0


async def die(database: Database, tmp_path: Path, step: str, name: str, path: Path) -> None:
    """A node that is killed at a step."""
    arguments = (database.url, str(tmp_path / "objects"), step, name, str(path))
    node = await asyncio.create_subprocess_exec(sys.executable, "-c", _DYING, *arguments)
    async with asyncio.timeout(60):
        assert await node.wait() == -signal.SIGKILL


async def test_an_object_that_cannot_be_deleted_holds_up_no_other(
    store: Store, tmp_path: Path
) -> None:
    class Stuck(DirectoryStore):
        async def delete(self, name: str) -> None:
            if name == stuck:
                raise ObjectStoreFailed("no", metadata={"problem": "EIO"})
            await super().delete(name)

    objects = Stuck(tmp_path / "objects")
    names = sorted([await put(objects, tmp_path, str(number)) for number in range(5)])
    stuck = names[1]
    assert await condemn_unnamed(store, objects, kept_s=-1.0) == 5
    assert await delete_condemned(store, objects) == 4
    assert await stored(objects) == {stuck}
    stuck = ""
    assert await delete_condemned(store, objects) == 1
    objects.close()


async def test_a_node_sweeps_by_itself(
    store: Store, objects: DirectoryStore, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    current, orphan, young = [await put(objects, tmp_path, text) for text in ("a", "b", "c")]
    await seal(store, collection, objects, current)
    part = tmp_path / "objects" / ".part-left-behind"
    part.write_bytes(b"half")
    for name in (current, orphan, part.name):
        os.utime(tmp_path / "objects" / name, (1, 1))
    sweeping = asyncio.create_task(tend_objects(store, objects))
    try:
        async with asyncio.timeout(20):
            while await stored(objects) != {current, young} or part.exists():
                await asyncio.sleep(0.02)
        assert not sweeping.done()
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    assert await named(store, collection) == {current}


async def test_what_a_current_segment_names_is_there_while_all_sweep_and_publish(
    store: Store, objects: DirectoryStore, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    files = [make_file(tmp_path, bytes([number]), f"f{number}") for number in range(4)]
    done = asyncio.Event()
    published = refused = 0

    async def builder(seed: int) -> None:
        nonlocal published, refused
        choose = random.Random(seed)
        for _ in range(60):
            name, path = choose.choice(files)
            await objects.put(name, path)
            await asyncio.sleep(choose.random() * 0.004)
            current = await named(store, collection)
            result = await seal(store, collection, objects, name, *(current - {name}))
            published += isinstance(result, Watermark)
            refused += isinstance(result, Outdated)

    async def sweeper() -> None:
        while not done.is_set():
            await purge(store, 0.0)
            await condemn_unnamed(store, objects, kept_s=-1.0)
            await delete_condemned(store, objects)

    async def watcher() -> None:
        while not done.is_set():
            # With the names locked nobody adopts, so that both sides are of one moment.
            async with store.system() as tx:
                await cleanup.condemn_objects(tx, [b"\0" * 32])
                assert {r.name for r in await segments_at(tx, collection)} <= await stored(objects)
                await cleanup.pardon_objects(tx, [b"\0" * 32])

    others = [asyncio.create_task(work) for work in (sweeper(), sweeper(), watcher())]
    await asyncio.gather(*(builder(seed) for seed in range(3)))
    done.set()
    await asyncio.gather(*others)
    assert published > 3 and refused > 3


async def test_a_publication_looks_for_its_object_before_it_locks_out_writers(
    store: Store, objects: DirectoryStore, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    name = await put(objects, tmp_path, "x")
    first = await seal(store, collection, objects, name)
    assert isinstance(first, Watermark)
    wrote: list[Watermark] = []

    async def slow(asked: str) -> bool:
        wrote.append(await _write(store, collection))
        return await objects.exists(asked)

    other = await put(objects, tmp_path, "y")
    async with store.transaction("one") as tx:
        said = await publish(
            tx,
            collection,
            [NewSegment(bytes.fromhex(other), 1, 1, "merge")],
            [bytes.fromhex(name)],
            sealed_from=1,
            sealed_seq=1,
            exists=slow,
        )
    assert isinstance(said, Watermark)
    assert [w.seq for w in wrote] == [said.seq - 1]


async def _write(store: Store, collection: Collection) -> Watermark:
    async with store.transaction(collection.tenant) as tx:
        commit = await apply_batch(tx, collection, [point("between")])
    return Watermark(commit.seq, commit.change_id)
