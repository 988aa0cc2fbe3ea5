"""What goes on while indexes are exchanged, and when nodes die of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import MigrationNotReady
from services.retrieval.index import indexes
from services.retrieval.migration import migrator, mirror
from services.rpc.values import vector_message
from services.store import index_migrations
from services.store.collections import get_collection
from services.store.store import Store
from tests.services.retrieval.given_models import MODELS, Models, vector_of
from tests.services.retrieval.lives import LivingNode, a_call
from tests.services.retrieval.second_index import (
    LARGE,
    NAME,
    NODES,
    SMALL,
    check,
    delete,
    flip,
    make_collection,
    nearest,
    start,
    until,
    until_ready,
    view_of,
    write,
)


async def test_calls_on_every_node_go_on_while_indexes_are_exchanged(
    store: Store, model_nodes: NODES
) -> None:
    """No call fails, whichever node gets it; what a watermark names is there, and no answer is made
    of both indexes."""
    both = model_nodes("one"), model_nodes("two")
    for node in both:
        await node.start()
    await make_collection(both[0])
    texts = {f"p{n:03d}": f"text number {n}" for n in range(40)}
    await write(both[0], texts)
    await start(both[1])
    await until_ready(both[0])
    over = asyncio.Event()
    dimensions = {MODELS[SMALL], MODELS[LARGE]}

    async def writer(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            id, text = f"w{number}-{turn % 7}", f"written {number} {turn}"
            texts[id] = text
            seq = await write(both[turn % 2], {id: text})
            # On the other node, which may not know yet what its name leads to.
            assert await nearest(both[1 - turn % 2], text, seq) == id
            if turn % 5 == 0:
                await delete(both[turn % 2], id)
                del texts[id]

    async def reader(node: LivingNode) -> None:
        while not over.is_set():
            request = pb.ListPointsRequest(collection=NAME, page_size=1_000, include_vectors=True)
            points = (await node.servicer.ListPoints(request, a_call())).points
            lengths = {len(one.vector.packed) // 4 for one in points}
            assert len(lengths) == 1 and lengths <= dimensions
            assert await nearest(node, "text number 3") == "p003"
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(writer(number))
        for node in both:
            group.create_task(reader(node))
        for turn in range(4):
            await asyncio.sleep(0.4)
            await flip(both[turn % 2], back=turn % 2 == 1)
        over.set()
    last = await write(both[0], {"last": "the last one"})
    texts["last"] = "the last one"
    for node in both:
        check(await view_of(node, store, last), SMALL, texts)
    await until(both[0], lambda found: found.points_left == 0)
    await flip(both[0])
    texts["more"] = "one more"
    last = await write(both[0], {"more": "one more"})
    for node in both:
        check(await view_of(node, store, last), LARGE, texts)


async def test_a_node_that_dies_while_it_mirrors_is_followed_by_another(
    store: Store, model_nodes: NODES, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was mirrored is not embedded again."""
    monkeypatch.setattr(mirror, "PAGE_ROWS", 10)
    one, two = model_nodes("one"), model_nodes("two")
    await one.start()
    await make_collection(one)
    texts = {f"p{n:03d}": f"text number {n}" for n in range(200)}
    await write(one, texts)
    await start(one)
    await until(one, lambda found: found.points - found.points_left >= 40)
    await one.crash()
    await two.start()
    assert (await until_ready(two)).points_left == 0
    # The page that it had in its hands, and the questions that both were compared on.
    assert models.texts[LARGE] <= len(texts) + 10 + 1 + migrator.QUERIES
    await flip(two)
    check(await view_of(two, store), LARGE, texts)


async def test_a_log_that_was_closed_by_who_died_opens_by_itself(
    store: Store, node: LivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(node, {"a": "some text"})
    await start(node)
    await until_ready(node)
    async with store.transaction("default") as tx:
        found = await index_migrations.get(tx, await get_collection(tx, "papers"))
        await index_migrations.close_source(tx, found, 0.5)
    begin_s = time.monotonic()
    await write(node, {"b": "waits for it"})
    assert 0.3 < time.monotonic() - begin_s < 5


async def test_asking_too_early_takes_nothing_from_who_fills_the_index(
    store: Store, node: LivingNode, models: Models
) -> None:
    """Who asks again and again would keep a mirror, or a job of hours, from ever being done."""
    await write(node, {"a": "some text"})
    await start(node)
    models.away = True  # before the mirror had its first turn
    async with store.transaction("default") as tx:
        found = await index_migrations.get(tx, await get_collection(tx, "papers"))
        await index_migrations.claim(tx, found, "ray/1", 30, by_force=True)
    with pytest.raises(MigrationNotReady):
        await flip(node)
    await flip(node, back=True)  # as it is already
    async with store.transaction("default") as tx:
        found = await index_migrations.get(tx, await get_collection(tx, "papers"))
    assert found.lease_owner == "ray/1"


async def test_a_snapshot_by_a_node_that_has_not_heard_has_what_was_written_since(
    store: Store, model_nodes: NODES, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy for bad days must not be of the index that only follows by now."""
    monkeypatch.setattr(indexes, "REFRESH_S", 60.0)
    one, two = model_nodes("one"), model_nodes("two")
    for node in (one, two):
        await node.start()
    await make_collection(one)
    texts = {"a": "some text"}
    await write(one, texts)
    await start(one)
    await until_ready(one)
    assert await nearest(two, "some text") == "a"  # it knows the collection
    await flip(one)
    models.away = True  # nothing is mirrored back
    bare = point_pb2.Point(id="late", vector=vector_message(vector_of(LARGE, "late")), text="late")
    await one.servicer.UpsertPoints(
        pb.UpsertPointsRequest(collection=NAME, points=[bare]), a_call()
    )
    request = pb.CreateSnapshotRequest(parent=NAME, snapshot_id="monday")
    made = (await two.servicer.CreateSnapshot(request, a_call())).snapshot
    assert made.points == 2
