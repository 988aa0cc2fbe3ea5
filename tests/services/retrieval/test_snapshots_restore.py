"""What may be relied on of snapshots: they bring back what was there, or say what is damaged."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from engine.errors import CollectionExists, DataLoss, SnapshotExists, SnapshotNotFound
from engine.index import MaintenanceSettings, View, list_points
from engine.types import Payload
from services.objects.sweeping import condemn_unnamed, delete_condemned
from services.retrieval.index.opening import IndexRoom
from services.rpc.call import Call
from services.store import cleanup
from services.store.collections import (
    Collection,
    CollectionSpec,
    VectorStorage,
    create_collection,
    delete_collection,
    get_collection,
    update_collection,
)
from services.store.points import PointRow
from services.store.segments import mark_storage
from services.store.snapshots import (
    Snapshot,
    delete_snapshot,
    get_snapshot,
    list_snapshots,
    snapshot_objects,
)
from services.store.store import Store, Tx
from tests.services.retrieval.nodes import DIMENSIONS, ROOMS, Log, answers, names, row, view_of

PATIENT = MaintenanceSettings(seal_rows=60, quiet_seal_rows=50, dead_share_max=1.0)


def call() -> Call:
    return Call("default", "r1", time.monotonic() + 60)


async def keep(store: Store, room: IndexRoom, log: Log, snapshot_id: str) -> Snapshot:
    async def record(add) -> Snapshot:  # type: ignore[no-untyped-def]
        async def work(tx: Tx) -> Snapshot:
            made: Snapshot = await add(tx, snapshot_id)
            return made

        return await store.run("default", work)

    return await room.snapshots.create(log.collection, call(), record)


async def restore(
    store: Store, room: IndexRoom, log: Log, snapshot_id: str, collection_id: str
) -> Log:
    async with store.transaction("default") as tx:
        snapshot = await get_snapshot(tx, log.collection, snapshot_id)
    async with room.snapshots.opened(log.collection, snapshot) as opened:

        async def work(tx: Tx) -> int:
            return await room.snapshots.restore(tx, opened, collection_id, 1_000)

        seq = await store.run("default", work)
    async with store.transaction("default") as tx:
        restored = Log(store, await get_collection(tx, collection_id))
    restored.seq = seq
    return restored


async def filled(store: Store, collection: Collection, room: IndexRoom) -> Log:
    """A collection with segments, tombstones in them, and rows in the buffer."""
    log = Log(store, collection)
    await room.start()
    await log.churn(14, 1)
    await room.compactor.seal(collection)
    await log.churn(2, 50)
    await log.write([PointRow(id="words", text="only words"), PointRow(id="empty", payload={})])
    view = await view_of(room, log)
    assert any(one.tombstones for one in view.segments if one.sealed is not None)
    assert any(one.sealed is None for one in view.segments)
    return log


def contents(view: View) -> list[tuple[str, str, Payload, object]]:
    return [
        (p.id, p.text, p.payload, None if p.vector is None else p.vector.tobytes())
        for p in list_points(view, limit=1_000, with_vectors=True)
    ]


def check(view: View, log: Log) -> None:
    assert [(p.id, p.text, p.payload) for p in list_points(view, limit=1_000)] == [
        (one.id, one.text, one.payload) for _, one in sorted(log.present.items())
    ]


async def test_a_restored_collection_is_what_the_other_was_at_the_snapshot(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room, other = rooms("one", PATIENT), rooms("two", PATIENT)
    log = await filled(store, collection, room)
    before = await view_of(room, log)
    wanted, answered, present = contents(before), answers(before), dict(log.present)
    kept = await keep(store, room, log, "monday")
    assert (kept.seq, kept.points) == (before.watermark, before.points)
    assert str(kept.change_id) == before.change_id
    await log.churn(10, 200)
    await log.write([], list(log.present)[:50])
    await other.start()
    copy = await restore(store, room, log, "monday", "papers-monday")
    copy.present = present
    for node in (room, other):
        view = await view_of(node, copy)
        check(view, copy)
        assert contents(view) == wanted and answers(view) == answered
    sealed = [one for one in before.segments if one.sealed is not None and one.live_count]
    restored = [one for one in view.segments if one.sealed is not None]
    assert {one.sealed.name for one in restored if one.sealed} == {
        one.sealed.name for one in sealed if one.sealed
    }
    check(await view_of(room, log), log)
    assert copy.collection.hnsw_m == collection.hnsw_m
    # It lives on like any other: written to, sealed, compacted, kept again.
    await copy.churn(8, 300)
    receipt = await other.compactor.compact(copy.collection, full=True, queries=8, call=call())
    check(await view_of(room, copy, receipt.watermark), copy)
    again = await keep(store, room, copy, "monday")
    assert again.points == len(copy.present)


@pytest.mark.parametrize("storage", ["float16", "int8"])
async def test_vectors_come_back_as_they_were_kept_then(
    store: Store, rooms: ROOMS, storage: VectorStorage
) -> None:
    async with store.transaction("default") as tx:
        spec = CollectionSpec(dimensions=DIMENSIONS, vector_storage=storage)
        collection = await create_collection(tx, "papers", spec)
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    await room.compactor.seal(collection)
    before = await view_of(room, log)
    wanted, answered = contents(before), answers(before)
    await keep(store, room, log, "monday")
    async with store.transaction("default") as tx:
        log.collection = await update_collection(tx, "papers", vector_storage="float32")
        await mark_storage(tx, log.collection, retire=True)
    room.indexes.nudge(changed=True)
    copy = await restore(store, room, log, "monday", "copy")
    assert copy.collection.vector_storage == storage
    view = await view_of(room, copy)
    assert contents(view) == wanted and answers(view) == answered


async def test_an_empty_collection_comes_back_empty(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = Log(store, collection)
    await room.start()
    kept = await keep(store, room, log, "empty")
    assert kept.points == 0 and kept.size_bytes > 0
    copy = await restore(store, room, log, "empty", "copy")
    assert (await view_of(room, copy)).points == 0


async def test_ids_are_taken_once_and_lists_go_by_id(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    for snapshot_id in ("b", "a", "c"):
        await keep(store, room, log, snapshot_id)
    with pytest.raises(SnapshotExists):
        await keep(store, room, log, "b")
    with pytest.raises(CollectionExists):
        await restore(store, room, log, "a", "papers")
    async with store.transaction("default") as tx:
        assert [one.id for one in await list_snapshots(tx, collection)] == ["a", "b", "c"]
        assert [one.id for one in await list_snapshots(tx, collection, after="a", limit=1)] == ["b"]
        await delete_snapshot(tx, collection, "b")
        with pytest.raises(SnapshotNotFound):
            await get_snapshot(tx, collection, "b")
        with pytest.raises(SnapshotNotFound):
            await delete_snapshot(tx, collection, "b")
    await keep(store, room, log, "b")


async def sweep(store: Store, room: IndexRoom) -> None:
    """All that clean-up does, as if nothing were young."""
    while True:
        async with store.system() as tx:
            if not await cleanup.purge_segments(tx, kept_s=0.0):
                break
    async with store.system() as tx:
        await cleanup.purge_snapshots(tx)
    await condemn_unnamed(store, room._objects, kept_s=-1.0)
    await delete_condemned(store, room._objects)


async def test_clean_up_keeps_what_snapshots_name_and_nothing_else(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    before = await view_of(room, log)
    wanted = contents(before)
    kept = await keep(store, room, log, "monday")
    async with store.transaction("default") as tx:
        needed = {one.name for one in await snapshot_objects(tx, kept)}
    await room.compactor.compact(collection, full=True, queries=8, call=call())
    now = set(names(await view_of(room, log)))
    assert not now & needed
    await sweep(store, room)
    objects = tmp_path / "objects"
    assert {path.name for path in objects.iterdir()} == needed | now
    copy = await restore(store, room, log, "monday", "copy")
    assert contents(await view_of(room, copy)) == wanted
    async with store.transaction("default") as tx:
        await delete_snapshot(tx, collection, "monday")
    await sweep(store, room)
    left = {path.name for path in objects.iterdir()}
    assert left == now | set(names(await view_of(room, copy)))
    assert contents(await view_of(room, copy)) == wanted


async def test_snapshots_go_with_their_collection(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    await keep(store, room, log, "monday")
    copy = await restore(store, room, log, "monday", "copy")
    wanted = contents(await view_of(room, copy))
    async with store.transaction("default") as tx:
        await delete_collection(tx, "papers")
    await sweep(store, room)
    async with store.transaction("default") as tx:
        assert await list_snapshots(tx, collection) == []
    left = {path.name for path in (tmp_path / "objects").iterdir()}
    assert left == set(names(await view_of(room, copy)))
    assert contents(await view_of(room, copy)) == wanted


@pytest.mark.parametrize("own", [True, False], ids=["own", "segment"])
@pytest.mark.parametrize("harm", ["deleted", "cut", "flipped"])
async def test_a_damaged_snapshot_names_the_object_and_leaves_nothing(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path, own: bool, harm: str
) -> None:
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    kept = await keep(store, room, log, "monday")
    async with store.transaction("default") as tx:
        name = next(one.name for one in await snapshot_objects(tx, kept) if one.own == own)
    path = tmp_path / "objects" / name
    data = bytearray(path.read_bytes())
    path.unlink()  # another file: nodes have names of this one
    if harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(DataLoss) as caught:
        await restore(store, room, log, "monday", "copy")
    assert caught.value.metadata["object"] == name
    async with store.transaction("default") as tx:
        found = await tx.rows("SELECT id FROM collections")
        assert [one[0] for one in found] == ["papers"]
        assert (
            await tx.rows("SELECT 1 FROM points WHERE collection_uid <> %s", (collection.uid,))
            == []
        )


async def test_a_restore_that_breaks_off_leaves_nothing_and_can_be_done_again(
    store: Store, collection: Collection, rooms: ROOMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    await keep(store, room, log, "monday")
    wanted = contents(await view_of(room, log))
    exists, there = room._objects.exists, asyncio.Event()

    async def stuck(name: str) -> bool:
        there.set()
        await asyncio.sleep(3600)
        return True

    monkeypatch.setattr(room._objects, "exists", stuck)  # the last step of a restore
    working = asyncio.create_task(restore(store, room, log, "monday", "copy"))
    await asyncio.wait_for(there.wait(), 20)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    async with store.transaction("default") as tx:
        assert [one[0] for one in await tx.rows("SELECT id FROM collections")] == ["papers"]
    monkeypatch.setattr(room._objects, "exists", exists)
    copy = await restore(store, room, log, "monday", "copy")
    assert contents(await view_of(room, copy)) == wanted


async def test_snapshots_are_of_one_commit_while_writes_go_on(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await filled(store, collection, room)
    states = {log.seq: dict(log.present)}

    async def write() -> None:
        for batch in range(30):
            await log.write([row(batch, batch)], [f"p{batch + 40:03d}"])
            states[log.seq] = dict(log.present)

    writing = asyncio.create_task(write())
    kept: list[Snapshot] = []
    while not writing.done() and len(kept) < 4:
        kept.append(await keep(store, room, log, f"s{len(kept)}"))
    await writing
    assert kept
    for snapshot in kept:
        copy = await restore(store, room, log, snapshot.id, f"copy-{snapshot.id}")
        # Between two writes a node seals and merges: commits that change no point.
        copy.present = states[max(seq for seq in states if seq <= snapshot.seq)]
        check(await view_of(room, copy), copy)
