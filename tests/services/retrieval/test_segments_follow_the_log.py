"""What may be relied on of segments: whatever a node has on disk, it answers what the log says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from engine.index import GraphSettings, MaintenanceSettings, Query, View, list_points, search
from services.config import IndexSettings
from services.retrieval.opening import IndexRoom
from services.rpc.call import Call
from services.store.collections import Collection, CollectionSpec, create_collection
from services.store.points import PointRow, apply_batch
from services.store.store import Store

DIMENSIONS = 8
SMALL = MaintenanceSettings(seal_rows=40, quiet_seal_rows=10, segments_max=3, merge_width=3)
VECTORS = np.random.default_rng(11).normal(size=(200, DIMENSIONS)).astype(np.float32)
ROOMS = Callable[..., IndexRoom]


@pytest_asyncio.fixture
async def rooms(store: Store, tmp_path: Path) -> AsyncIterator[ROOMS]:
    """Makes nodes that share an object store; each has a directory of its own, by name."""
    threads = ThreadPoolExecutor(4)
    made: list[IndexRoom] = []

    def make(name: str) -> IndexRoom:
        settings = IndexSettings(directory=tmp_path / name, objects_dir=tmp_path / "objects")
        room = IndexRoom(store, threads, None, settings, tmp_path, name, SMALL)
        made.append(room)
        return room

    yield make
    for room in made:
        await room.close()
    threads.shutdown()


@pytest_asyncio.fixture
async def collection(store: Store) -> Collection:
    async with store.transaction("default") as tx:
        return await create_collection(
            tx, "papers", CollectionSpec(dimensions=DIMENSIONS, hnsw_m=4)
        )


def row(number: int, version: int) -> PointRow:
    return PointRow(
        id=f"p{number:03d}",
        vector=VECTORS[(number + version) % len(VECTORS)],
        text=f"word{number % 5} version{version}",
        payload={"n": number, "version": version},
    )


class Log:
    """Writes to PostgreSQL, and remembers what must be there."""

    def __init__(self, store: Store, collection: Collection) -> None:
        self._store = store
        self.collection = collection
        self.present: dict[str, PointRow] = {}
        self.seq = 0

    async def write(self, upserts: list[PointRow], deletes: list[str] | None = None) -> None:
        async with self._store.transaction("default") as tx:
            commit = await apply_batch(tx, self.collection, upserts, deletes or [])
        self.seq = commit.seq
        for id in deletes or []:
            self.present.pop(id, None)
        self.present |= {one.id: one for one in upserts}

    async def churn(self, batches: int, seed: int) -> None:
        rng = random.Random(seed)
        for version in range(batches):
            numbers = rng.sample(range(150), 14)
            gone = [f"p{number:03d}" for number in numbers[10:]]
            await self.write([row(number, seed + version) for number in numbers[:10]], gone)


async def view_of(room: IndexRoom, log: Log, min_seq: int | None = None) -> View:
    call = Call("default", "r1", time.monotonic() + 20)
    return await room.indexes.view(log.collection, log.seq if min_seq is None else min_seq, call)


async def settled(room: IndexRoom, log: Log) -> View:
    """Waits until everything is sealed that is worth it, and nothing is built any more."""
    last, since_s = -1, time.monotonic()
    for _ in range(600):
        view = await view_of(room, log)
        busy = any(followed.tasks() for followed in room.indexes._followed.values())
        if view.watermark != last or busy:
            last, since_s = view.watermark, time.monotonic()
        buffered = sum(one.live_count for one in view.segments if one.sealed is None)
        if time.monotonic() - since_s > 1.6 and buffered < SMALL.quiet_seal_rows:
            return view
        await asyncio.sleep(0.05)
    raise AssertionError("it does not settle")


def names(view: View) -> list[str]:
    return [one.sealed.name for one in view.segments if one.sealed is not None]


def check(view: View, log: Log) -> None:
    listed = list_points(view, limit=1_000)
    assert [(p.id, p.text, p.payload) for p in listed] == [
        (one.id, one.text, one.payload) for _, one in sorted(log.present.items())
    ]
    hits = search(view, Query(VECTORS[0], limit=1_000, exact=True)).hits
    assert {hit.point.id for hit in hits} == log.present.keys()


QUERIES = [
    Query(VECTORS[3], limit=20),
    Query(text="word1 version3", limit=30),
    Query(VECTORS[70], "word4", limit=20),
]


def answers(view: View) -> list[object]:
    return [search(view, query).hits for query in QUERIES]


async def test_nodes_at_one_watermark_have_the_same_segments_and_answers(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    log = Log(store, collection)
    one, two = rooms("one"), rooms("two")
    await one.start()
    await two.start()
    await view_of(one, log)
    for round in range(4):
        await log.churn(8, round * 10)
        await view_of(two, log)
    await settled(one, log)
    first = await settled(two, log)
    second = await view_of(one, log, first.watermark)
    assert first.watermark == second.watermark > log.seq
    assert names(first) == names(second) != []
    check(first, log)
    check(second, log)
    assert answers(first) == answers(second)
    late = rooms("three")
    await late.start()
    third = await view_of(late, log, first.watermark)
    assert sorted(names(third)) == sorted(names(first))
    check(third, log)
    assert answers(third) == answers(first)


async def test_a_node_comes_back_with_its_segments_and_reads_only_what_is_new(
    store: Store, collection: Collection, rooms: ROOMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 1)
    before = names(await settled(room, log))
    assert before
    await room.close()
    await log.write([row(3, 99), row(151, 0)], ["p007"])
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    check(view, log)
    assert sorted(names(view)) == sorted(before)


async def damage_nothing(path: Path) -> None:
    path.unlink()


async def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


async def flip(path: Path) -> None:
    # A new file: the object store has another name of the old one.
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage_nothing, flip], ids=["deleted", "flipped"])
async def test_a_harmed_segment_file_is_fetched_again(
    store: Store,
    collection: Collection,
    rooms: ROOMS,
    tmp_path: Path,
    harm: Callable[[Path], Awaitable[None]],
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 2)
    before = names(await settled(room, log))
    await room.close()
    for path in (tmp_path / "one" / str(collection.uid)).glob("*.segment"):
        await harm(path)
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    assert sorted(names(view)) == sorted(before)
    check(view, log)


@pytest.mark.parametrize("harm", [damage_nothing, cut, flip], ids=["deleted", "cut", "flipped"])
async def test_rows_of_a_lost_segment_are_sealed_again_from_the_log(
    store: Store,
    collection: Collection,
    rooms: ROOMS,
    tmp_path: Path,
    harm: Callable[[Path], Awaitable[None]],
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 3)
    before = names(await settled(room, log))
    await room.close()
    for path in (tmp_path / "one" / str(collection.uid)).glob("*.segment"):
        path.unlink()
    await harm(tmp_path / "objects" / before[0])
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    check(view, log)
    assert before[0] not in names(view)
    check(await settled(again, log), log)


async def test_manifests_that_do_not_read_cost_a_longer_start_and_nothing_else(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 4)
    before = names(await settled(room, log))
    await room.close()
    folder = tmp_path / "one" / str(collection.uid)
    manifests = list(folder.glob("manifest-*"))
    assert manifests
    for path in manifests:
        await flip(path)
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    assert sorted(names(view)) == sorted(before)
    check(view, log)


async def test_what_a_node_has_of_a_deleted_collection_goes(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    from services.store.collections import delete_collection

    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 5)
    await settled(room, log)
    folder = tmp_path / "one" / str(collection.uid)
    assert folder.exists()
    async with store.transaction("default") as tx:
        await delete_collection(tx, "papers")
    room.indexes.nudge()
    for _ in range(100):
        if not folder.exists():
            break
        await asyncio.sleep(0.05)
    assert not folder.exists()


assert GraphSettings().exact_values > 200 * DIMENSIONS
