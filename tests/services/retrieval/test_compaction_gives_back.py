"""What may be relied on of a compaction: its receipt is true, and searches find no less after."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import CollectionNotFound, DeadlineExceeded, RagmeshError
from engine.index import MaintenanceSettings, plan
from engine.index import view as views
from engine.index.collection import CollectionIndex
from engine.index.maintenance import Work
from services.retrieval.index.compaction import Receipt
from services.retrieval.index.loading import Loader
from services.retrieval.index.opening import IndexRoom
from services.retrieval.index.upkeep import Candidate, Upkeep
from services.rpc.call import Call
from services.store.collections import (
    Collection,
    CollectionSpec,
    create_collection,
    delete_collection,
    update_collection,
)
from services.store.points import PointRow
from services.store.segments import Work as Kind
from services.store.store import Store
from tests.services.retrieval.nodes import (
    ROOMS,
    Log,
    answers,
    check,
    names,
    row,
    settled,
    view_of,
)

PATIENT = MaintenanceSettings(seal_rows=100, quiet_seal_rows=50, dead_share_max=1.0)
"""Nodes that compact nothing by themselves."""


def call(seconds: float = 60) -> Call:
    return Call("default", "r1", time.monotonic() + seconds)


async def compact(room: IndexRoom, log: Log, *, full: bool = False, seconds: float = 60) -> Receipt:
    return await room.compactor.compact(log.collection, full=full, queries=64, call=call(seconds))


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes walk the graphs of small collections too."""
    settings = Loader.settings

    def of(self: Loader, collection: Collection) -> object:
        found = settings(self, collection)
        return dataclasses.replace(found, graph=dataclasses.replace(found.graph, exact_values=0))

    monkeypatch.setattr(Loader, "settings", of)
    monkeypatch.setattr(plan, "SCAN_CODES_NS", 1_000.0)


async def half_deleted(store: Store, collection: Collection, room: IndexRoom) -> Log:
    log = Log(store, collection)
    await room.start()
    for start in range(0, 300, 100):
        await log.write([row(number, 0) for number in range(start, start + 100)])
        await view_of(room, log)
    await settled(room, log)
    await log.write([row(number, 1) for number in range(20)], [f"p{n:03d}" for n in range(20, 160)])
    await view_of(room, log)
    return log


def files(tmp_path: Path, log: Log, segments: list[str]) -> int:
    folder = tmp_path / "one" / str(log.collection.uid)
    return sum((folder / f"{name}.segment").stat().st_size for name in segments)


async def tidy(room: IndexRoom, log: Log, folder: Path) -> bool:
    """Whether soon only files of present segments are in a node's folder."""
    for _ in range(100):
        present = {f"{name}.segment" for name in names(await view_of(room, log))}
        if present == {one for one in os.listdir(folder) if one.endswith(".segment")}:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_receipt_says_what_the_index_and_the_disk_say(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    room, other = rooms("one", PATIENT), rooms("two", PATIENT)
    log = await half_deleted(store, collection, room)
    await other.start()
    before = await view_of(room, log)
    said, answered = views.stats(before), answers(before)
    disk_before = files(tmp_path, log, names(before))
    receipt = await compact(room, log, full=True)
    after = await view_of(room, log, receipt.watermark)
    now = views.stats(after)
    assert receipt.rolled_back == "" and receipt.points == now.points == 160
    assert (receipt.before.segments, receipt.after.segments) == (said.segments, now.segments)
    assert receipt.tombstones_removed == said.tombstones == 160 and now.tombstones == 0
    assert receipt.before.disk_bytes == disk_before
    assert receipt.after.disk_bytes == files(tmp_path, log, names(after)) < disk_before
    assert receipt.before.index_bytes == said.heap_bytes + said.mapped_bytes
    assert receipt.after.index_bytes == now.heap_bytes + now.mapped_bytes
    assert receipt.after.index_bytes < receipt.before.index_bytes
    assert 1 << 20 < receipt.after.resident_bytes < 1 << 36
    assert receipt.recall.recall_before == receipt.recall.recall_after == 1.0
    assert receipt.recall.queries == 64 and receipt.duration_s > 0
    assert now.buffered == 0 and receipt.watermark == after.watermark
    check(after, log)
    assert answers(after) == answered
    elsewhere = await view_of(other, log, receipt.watermark)
    assert sorted(names(elsewhere)) == sorted(names(after))
    assert answers(elsewhere) == answered
    for node, name in ((room, "one"), (other, "two")):
        assert await tidy(node, log, tmp_path / name / str(collection.uid))


async def test_full_makes_one_segment_and_a_second_time_changes_nothing(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await half_deleted(store, collection, room)
    first = await compact(room, log, full=True)
    assert first.after.segments == 1
    second = await compact(room, log, full=True)
    assert second.watermark == first.watermark and second.tombstones_removed == 0
    third = await compact(room, log)
    assert third.watermark == first.watermark
    # What is resident is the whole process's, in which other things happen too.
    assert third.before == dataclasses.replace(
        third.after, resident_bytes=third.before.resident_bytes
    )
    check(await view_of(room, log, third.watermark), log)


async def test_a_merge_that_came_first_is_no_failure(
    store: Store,
    collection: Collection,
    rooms: ROOMS,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was chosen is of segments that another build has replaced, and their files are gone."""
    room = rooms("one", PATIENT)
    log = await half_deleted(store, collection, room)
    index = room.indexes.index(collection)
    assert index is not None
    chosen = [index.compaction(full=True)]
    await compact(room, log, full=True)
    for name in (name for work in chosen[0] for name in work.retired):
        (tmp_path / "one" / str(collection.uid) / f"{name}.segment").unlink(missing_ok=True)
    await log.write([], ["p160", "p161"])
    choose = CollectionIndex.compaction

    def late(self: CollectionIndex, *, full: bool = False) -> tuple[Work, ...]:
        return chosen.pop() if chosen else choose(self, full=full)

    monkeypatch.setattr(CollectionIndex, "compaction", late)
    receipt = await compact(room, log, full=True)
    assert not chosen and receipt.rolled_back == "" and receipt.tombstones_removed == 2
    check(await view_of(room, log, receipt.watermark), log)


async def test_what_another_node_compacted_in_this_moment_is_not_built_again(
    store: Store, collection: Collection, rooms: ROOMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = rooms("one", PATIENT), rooms("two", PATIENT)
    log = await half_deleted(store, collection, one)
    await two.start()
    await view_of(two, log)
    lease, make, built = Upkeep.lease, Upkeep.make, []

    @contextlib.asynccontextmanager
    async def late(self: Upkeep, of: Collection, kind: Kind) -> AsyncIterator[bool]:
        if kind == "merge":
            monkeypatch.setattr(Upkeep, "lease", lease)
            await compact(one, log, full=True)
            monkeypatch.setattr(Upkeep, "make", counted)
        async with lease(self, of, kind) as held:
            yield held

    async def counted(
        self: Upkeep, of: Collection, index: CollectionIndex, work: Work, scratch: Path
    ) -> Candidate:
        built.append(work)
        return await make(self, of, index, work, scratch)

    monkeypatch.setattr(Upkeep, "lease", late)
    receipt = await compact(two, log)
    assert not built and receipt.after.segments == 1
    check(await view_of(two, log, receipt.watermark), log)


async def test_an_empty_collection_is_compacted_to_nothing(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = Log(store, collection)
    await room.start()
    nothing = await compact(room, log, full=True)
    assert (nothing.points, nothing.after.segments, nothing.recall.queries) == (0, 0, 0)
    await log.write([row(number, 0) for number in range(30)])
    await view_of(room, log)
    await compact(room, log)
    await log.write([], [f"p{number:03d}" for number in range(30)])
    await view_of(room, log)
    gone = await compact(room, log)
    assert (gone.tombstones_removed, gone.after.segments, gone.after.disk_bytes) == (30, 0, 0)


async def test_what_would_find_less_is_thrown_away(
    store: Store, rooms: ROOMS, walked: None
) -> None:
    vectors = np.random.default_rng(3).normal(size=(1_500, 24)).astype(np.float32)
    async with store.transaction("default") as tx:
        spec = CollectionSpec(dimensions=24, hnsw_ef_search=10)
        collection = await create_collection(tx, "papers", spec)
    log, room = Log(store, collection), rooms("one", PATIENT)
    await room.start()
    rows = [PointRow(id=f"p{n:04d}", vector=vector) for n, vector in enumerate(vectors)]
    await log.write(rows)
    await view_of(room, log)
    good = await compact(room, log)
    assert good.rolled_back == "" and good.recall.recall_after > 0.8
    await log.write([], [one.id for one in rows[:400]])
    async with store.transaction("default") as tx:
        await update_collection(tx, "papers", hnsw_m=2, hnsw_ef_construction=8)
    room.indexes.nudge(changed=True)
    for _ in range(200):
        index = room.indexes.index(collection)
        if index is not None and index.settings.graph.m == 2:
            break
        await asyncio.sleep(0.05)
    view = await view_of(room, log)
    for full in (False, True):
        bad = await compact(room, log, full=full)
        assert "would fall from" in bad.rolled_back
        assert bad.recall.recall_after < bad.recall.recall_before - 0.01
        assert bad.tombstones_removed == 0 and bad.before.segments == bad.after.segments
        assert names(await view_of(room, log)) == names(view)
    [segment] = (await view_of(room, log)).segments
    assert segment.tombstones == 400


async def test_a_node_throws_away_by_itself_what_would_find_less_and_lets_it_be(
    store: Store, rooms: ROOMS, walked: None
) -> None:
    vectors = np.random.default_rng(3).normal(size=(1_500, 24)).astype(np.float32)
    async with store.transaction("default") as tx:
        spec = CollectionSpec(dimensions=24, hnsw_ef_search=10)
        collection = await create_collection(tx, "papers", spec)
    log, room = Log(store, collection), rooms("one", PATIENT)
    await room.start()
    rows = [PointRow(id=f"p{n:04d}", vector=vector) for n, vector in enumerate(vectors)]
    await log.write(rows)
    await view_of(room, log)
    receipt = await compact(room, log)
    await room.close()
    async with store.transaction("default") as tx:
        log.collection = await update_collection(tx, "papers", hnsw_m=2, hnsw_ef_construction=8)
    await log.write([], [one.id for one in rows[:400]])
    eager = rooms("two", MaintenanceSettings(dead_share_max=0.2))
    await eager.start()
    await view_of(eager, log)
    index = None
    for _ in range(400):
        index = eager.indexes.index(collection)
        assert index is not None
        if index.merge_work() is None:
            break
        await asyncio.sleep(0.05)
    assert index is not None and index.merge_work() is None
    assert receipt.after.segments == 1 and index.view.segments[0].tombstones == 400


async def test_writes_go_on_while_it_works(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await half_deleted(store, collection, room)
    receipts = []

    async def again() -> None:
        for full in (True, False, True):
            receipts.append(await compact(room, log, full=full))

    working = asyncio.create_task(again())
    seed = 100
    while not working.done():
        await log.churn(2, seed)
        check(await view_of(room, log), log)
        seed += 10
    await working
    assert all(receipt.rolled_back == "" for receipt in receipts)
    check(await view_of(room, log), log)


async def test_a_second_call_joins_and_who_leaves_early_loses_nothing(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await half_deleted(store, collection, room)
    with pytest.raises(DeadlineExceeded, match="goes on"):
        await compact(room, log, seconds=0.1)
    first, second = await asyncio.gather(compact(room, log), compact(room, log, full=True))
    assert first is second and first.tombstones_removed == 160
    check(await view_of(room, log, first.watermark), log)


async def test_a_node_that_stops_in_the_middle_has_changed_nothing(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await half_deleted(store, collection, room)
    await room.compactor.seal(log.collection)
    before = names(await view_of(room, log))
    working = asyncio.create_task(compact(room, log, full=True))
    while not any(room._builder._running):
        await asyncio.sleep(0.005)
    await room.close()
    with pytest.raises((RagmeshError, asyncio.CancelledError)):
        await working
    again = rooms("one", PATIENT)
    await again.start()
    view = await view_of(again, log)
    assert sorted(names(view)) == sorted(before)
    check(view, log)
    receipt = await compact(again, log, full=True)
    assert receipt.after.segments == 1
    check(await view_of(again, log, receipt.watermark), log)


async def test_a_collection_that_is_deleted_meanwhile_says_so(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    room = rooms("one", PATIENT)
    log = await half_deleted(store, collection, room)
    working = asyncio.create_task(compact(room, log, full=True))
    await asyncio.sleep(0.05)
    async with store.transaction("default") as tx:
        await delete_collection(tx, "papers")
    with pytest.raises(CollectionNotFound):
        await working
