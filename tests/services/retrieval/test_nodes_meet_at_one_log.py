"""Nodes that seal while writers commit late, callers search what is being deleted, and others die
between two steps of a publication."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import CollectionNotFound, FailedPrecondition
from engine.index import View, get
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.points import PointRow, apply_batch
from services.store.store import Store
from tests.faults.soak import seeds
from tests.services.retrieval.lives import LivingNode, a_call, hurry
from tests.services.retrieval.nodes import Log, answers, check, names, row

NODES = Callable[[str], LivingNode]
WRITERS = 4
WRITES = 12


@pytest_asyncio.fixture
async def nodes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NODES]:
    """Makes nodes by name that share their objects."""
    hurry(monkeypatch)
    made: list[LivingNode] = []

    def make(name: str) -> LivingNode:
        made.append(LivingNode(store, tmp_path, name))
        return made[-1]

    yield make
    for node in made:
        await node.close()


async def view_at(node: LivingNode, collection: Collection, seq: int) -> View:
    call = Call("default", "r1", time.monotonic() + 20)
    return await node.room.indexes.view(collection, seq, call)


@pytest.mark.parametrize("seed", seeds())
async def test_rows_of_late_commits_are_in_the_segments_of_every_node(
    store: Store, collection: Collection, nodes: NODES, seed: int
) -> None:
    both = nodes("one"), nodes("two")
    for node in both:
        await node.start()
    written: dict[int, list[PointRow]] = {}

    async def write(writer: int) -> None:
        rng = random.Random(f"{seed} {writer}")
        for turn in range(WRITES):
            rows = [row(rng.randrange(60), writer * WRITES + turn) for _ in range(5)]
            with contextlib.suppress(_GivenUp):
                async with store.transaction("default") as tx:
                    await asyncio.sleep(rng.uniform(0, 0.02))
                    commit = await apply_batch(tx, collection, rows)
                    await asyncio.sleep(rng.uniform(0, 0.02))
                    if rng.random() < 0.2:
                        raise _GivenUp
                written[commit.seq] = rows
                view = await view_at(rng.choice(both), collection, commit.seq)
                if view.watermark == commit.seq:
                    last = {one.id: one for one in rows}
                    found = {point.id: point.payload for point in get(view, last)}
                    assert found == {id: one.payload for id, one in last.items()}

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    log = Log(store, collection)
    for seq in sorted(written):
        log.seq = seq
        log.present |= {one.id: one for one in written[seq]}
    for node in both:
        await view_at(node, collection, log.seq)
        await node.settled()
    views = [await view_at(node, collection, log.seq) for node in both]
    last = max(view.watermark for view in views)
    one, two = [await view_at(node, collection, last) for node in both]
    assert names(one) == names(two) != []
    for view in (one, two):
        check(view, log)
    assert answers(one) == answers(two)


class _GivenUp(Exception):
    pass


@pytest.mark.parametrize("moment", ["before it is put", "after it is put", "after it is published"])
async def test_a_node_that_dies_while_it_publishes_loses_nothing(
    store: Store,
    collection: Collection,
    nodes: NODES,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    node, log = nodes("one"), Log(store, collection)
    await node.start()
    here, forever = asyncio.Event(), asyncio.Event()
    objects, upkeep = node.room._objects, node.room.indexes._tender._upkeep
    put, publish = objects.put, upkeep.publish

    async def put_and_stop(name: str, path: Path) -> None:
        if moment == "after it is put":
            await put(name, path)
        here.set()
        await forever.wait()

    async def publish_and_stop(*arguments: object) -> None:
        await publish(*arguments)  # type: ignore[arg-type]
        here.set()
        await forever.wait()

    if moment == "after it is published":
        monkeypatch.setattr(upkeep, "publish", publish_and_stop)
    else:
        monkeypatch.setattr(objects, "put", put_and_stop)
    await log.churn(8, 1)
    await view_at(node, collection, log.seq)
    async with asyncio.timeout(20):
        await here.wait()
    await log.write([row(3, 50), row(160, 1)], ["p007"])
    await node.crash()
    assert list(node.directory.glob("*/build-*")) or moment == "after it is published"
    await node.start()
    check(await view_at(node, collection, log.seq), log)
    await node.settled()
    view = await view_at(node, collection, log.seq)
    check(view, log)
    assert names(view)
    assert not list(node.directory.glob("*/build-*"))


async def test_a_collection_deleted_under_running_searches_is_not_found_and_never_another(
    store: Store, nodes: NODES
) -> None:
    both = nodes("one"), nodes("two")
    for node in both:
        await node.start()
    stop = asyncio.Event()
    outcomes: list[str] = []

    async def search(node: LivingNode) -> None:
        request = pb.SearchCollectionRequest(
            collection="collections/fleeting", vector=_vector(), limit=100
        )
        while not stop.is_set():
            try:
                response = await node.servicer.SearchCollection(request, a_call())
                lives = {str(hit.point.payload["life"]) for hit in response.hits}
                assert len(lives) <= 1, f"one answer has points of {lives}"
                outcomes.append("found" if lives else "empty")
            except (CollectionNotFound, FailedPrecondition) as error:
                outcomes.append(type(error).__name__)
            await asyncio.sleep(0.002)

    searches = [asyncio.create_task(search(node)) for node in (*both, *both)]
    for life in range(12):
        maker, other = random.Random(life).sample(both, 2)
        await maker.servicer.CreateCollection(
            pb.CreateCollectionRequest(
                collection=collection_pb2.Collection(dimensions=2), collection_id="fleeting"
            ),
            a_call(),
        )
        points = [point_pb2.Point(id=f"p{n}", vector=_vector()) for n in range(40)]
        for point in points:
            point.payload.update({"life": f"life {life}"})
        upsert = pb.UpsertPointsRequest(collection="collections/fleeting", points=points, wait=True)
        written = await other.servicer.UpsertPoints(upsert, a_call())
        count = pb.CountPointsRequest(
            collection="collections/fleeting", min_watermark=written.watermark
        )
        assert (await maker.servicer.CountPoints(count, a_call())).count == 40
        await asyncio.sleep(0.15)
        await maker.servicer.DeleteCollection(
            pb.DeleteCollectionRequest(name="collections/fleeting"), a_call()
        )
    stop.set()
    await asyncio.gather(*searches)
    assert set(outcomes) >= {"found", "CollectionNotFound"}


def _vector() -> vector_pb2.Vector:
    return vector_pb2.Vector(dense=vector_pb2.DenseVector(values=[1.0, 0.5]))
