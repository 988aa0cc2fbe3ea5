"""What may be relied on while a collection comes to keep its vectors otherwise."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import numpy as np

from engine.index import View, get
from engine.index.storage import Storage
from services.retrieval.index.opening import IndexRoom
from services.store.changes import Feed, snapshot_scan
from services.store.collections import (
    Collection,
    VectorStorage,
    hold_collection,
    update_collection,
)
from services.store.segments import NewSegment, Outdated, mark_storage, publish
from services.store.store import Store
from tests.services.retrieval.nodes import (
    ROOMS,
    Log,
    answers,
    check,
    names,
    settled,
    view_of,
)


async def switch(store: Store, log: Log, storage: VectorStorage) -> int:
    """As UpdateCollection does it; the commit."""
    async with store.transaction("default") as tx:
        await hold_collection(tx, log.collection.id)
        log.collection = await update_collection(tx, log.collection.id, vector_storage=storage)
        return (await mark_storage(tx, log.collection, retire=storage == "float32")).seq


async def rebuilt(room: IndexRoom, log: Log, storage: Storage, least: int) -> View:
    """Once every segment keeps its vectors so, and nothing is built any more."""
    for _ in range(30):
        await view_of(room, log, least)
        view = await settled(room, log)
        if {one.sealed.storage for one in view.segments if one.sealed} == {storage}:
            return view
        await asyncio.sleep(0.2)
    raise AssertionError(f"segments are not kept as {storage}")


def kept(view: View, log: Log) -> dict[str, bytes]:
    points = get(view, sorted(log.present), with_vectors=True)
    return {point.id: np.asarray(point.vector).tobytes() for point in points}


async def test_segments_are_built_anew_and_nodes_agree_at_every_commit(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    log = Log(store, collection)
    one, two = rooms("one"), rooms("two")
    await one.start()
    await two.start()
    await log.churn(12, 1)
    before = await settled(one, log)
    whole = kept(before, log)
    kinds: tuple[VectorStorage, ...] = ("float16", "int8", "float32")
    for kind in kinds:
        storage = Storage(kind)
        seq = await switch(store, log, kind)
        first = await rebuilt(one, log, storage, seq)
        second = await view_of(two, log, first.watermark)
        second = await settled(two, log)
        assert first.watermark == second.watermark
        assert sorted(names(first)) == sorted(names(second))
        assert answers(first) == answers(second)
        check(first, log)
        # From the log, to the bit, as soon as it is wanted.
        assert (kept(first, log) == whole) == (storage is Storage.FLOAT32)
        assert kept(first, log) == kept(second, log)


async def test_rows_written_after_the_change_are_compared_as_those_before(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 2)
    await settled(room, log)
    seq = await switch(store, log, "float16")
    await rebuilt(room, log, Storage.FLOAT16, seq)
    await log.churn(1, 60)
    buffered = await view_of(room, log)
    assert any(one.sealed is None and one.live_count for one in buffered.segments)
    for vector in kept(buffered, log).values():
        rows = np.frombuffer(vector, np.float32)
        assert np.array_equal(rows, rows.astype(np.float16).astype(np.float32))


async def test_what_was_built_for_another_way_to_keep_vectors_is_not_adopted(
    store: Store, collection: Collection
) -> None:
    async def exists(name: str) -> bool:
        return True

    log = Log(store, collection)
    await log.churn(2, 3)
    await switch(store, log, "int8")
    segment = NewSegment(uuid4().bytes * 2, 20, 1_000, "seal")
    async with store.transaction("default") as tx:
        outcome = await publish(
            tx,
            log.collection,
            [segment],
            sealed_from=0,
            sealed_seq=log.seq,
            exists=exists,
            storage="float32",
        )
    assert isinstance(outcome, Outdated) and "int8" in outcome.reason
    async with snapshot_scan(store, "default", collection.uid) as feed:
        assert isinstance(feed, Feed)
        assert feed.segments == () and feed.head.vector_storage == "int8"
