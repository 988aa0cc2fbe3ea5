"""What went wrong on one node, or with the log itself, no node answers wrongly for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import FailedPrecondition
from engine.index import View, list_points
from services.objects.seam import ObjectStoreFull
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.store import Store
from tests.services.retrieval.lives import LivingNode, a_call, hurry
from tests.services.retrieval.nodes import Log, check, names, row
from tests.services.store.stored import Database

NODES = Callable[[str], LivingNode]


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


async def seen(node: LivingNode, log: Log, within_s: float = 10.0) -> View:
    call = Call("default", "r1", time.monotonic() + within_s)
    return await node.room.indexes.view(log.collection, log.seq, call)


async def sealed(node: LivingNode, log: Log) -> list[str]:
    await seen(node, log)
    await node.settled()
    found = names(await seen(node, log))
    assert found
    return found


async def test_a_node_that_has_a_lost_segment_open_goes_on_with_the_rows_that_are_sealed_again(
    store: Store, collection: Collection, nodes: NODES
) -> None:
    log, one, two = Log(store, collection), nodes("one"), nodes("two")
    await one.start()
    await two.start()
    await log.churn(8, 1)
    await sealed(one, log)
    check(await seen(two, log), log)
    await two.close()
    two.lose("files")
    for path in two.objects.iterdir():
        path.unlink()
    await one.room._builder.close()
    await two.start()
    await two.room._builder.close()
    check(await seen(two, log), log)
    await log.write([row(3, 50), row(160, 1)], ["p007"])
    check(await seen(one, log), log)
    check(await seen(two, log), log)
    await one.close()
    await one.start()
    again = await sealed(one, log)
    assert sorted(names(await seen(two, log))) == sorted(again)


async def test_a_node_does_not_build_upon_commits_that_a_restored_log_has_lost(
    store: Store, database: Database, collection: Collection, nodes: NODES
) -> None:
    """Its own next commits have the numbers that follow, and yet another past."""
    node = nodes("one")
    await node.start()
    log = Log(store, collection)
    await log.write([row(1, 0)])
    await seen(node, log)
    kept = dict(log.present)
    await log.write([row(2, 0)])
    check(await seen(node, log), log)
    await rewind(database)
    log.present = kept
    one, two = await asyncio.gather(upsert(node, "p003"), upsert(node, "p004"))
    log.seq = max(one, two)
    for id in ("p003", "p004"):
        log.present[id] = row(int(id[1:]), 0)
    give_up_s = time.monotonic() + 10
    while {point.id for point in list_points(await seen(node, log))} != log.present.keys():
        assert time.monotonic() < give_up_s, "it shows what the log does not have"
        await asyncio.sleep(0.05)
    check(await seen(node, log), log)


async def test_segments_that_cannot_be_fetched_hold_up_no_write(
    store: Store,
    collection: Collection,
    nodes: NODES,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, one, two = Log(store, collection), nodes("one"), nodes("two")
    await one.start()
    await two.start()
    await log.churn(2, 1)
    await seen(two, log)
    full = True
    fetch = two.room._objects.fetch

    async def refuse(name: str, path: Path) -> None:
        if full:
            raise ObjectStoreFull(f"Object {name} could not be fetched: No space left on device.")
        await fetch(name, path)

    monkeypatch.setattr(two.room._objects, "fetch", refuse)
    await two.room._builder.close()
    await log.churn(8, 2)
    sealed_names = await sealed(one, log)
    await log.write([row(3, 50)], ["p007"])
    for node in (one, two):
        check(await seen(node, log), log)
    assert not set(sealed_names) <= set(names(await seen(two, log)))
    assert "No space left on device" in caplog.text
    full = False
    give_up_s = time.monotonic() + 10
    while names(await seen(one, log)) != names(await seen(two, log)):
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.05)
    check(await seen(two, log), log)


async def test_what_a_crash_cut_short_takes_no_space_in_the_next_life(
    store: Store, collection: Collection, nodes: NODES
) -> None:
    log, node = Log(store, collection), nodes("one")
    await node.start()
    await log.churn(4, 1)
    before = await sealed(node, log)
    await node.close()
    folder = node.directory / str(collection.uid)
    whole = {path.relative_to(node.directory) for path in node.directory.rglob("*")}
    (folder / "build-1" / "x").mkdir(parents=True)
    half = ("build-1/x/out.1.partial", "manifest-0.7.partial", ".part-abc-1", "../.job-1.json")
    for place in half:
        (folder / place).write_bytes(b"half")
    await node.start()
    assert {path.relative_to(node.directory) for path in node.directory.rglob("*")} == whole
    view = await seen(node, log)
    assert sorted(names(view)) == sorted(before)
    check(view, log)


async def test_a_second_node_on_one_directory_is_refused_and_the_first_goes_on(
    store: Store, collection: Collection, nodes: NODES
) -> None:
    log, node = Log(store, collection), nodes("one")
    await node.start()
    await log.churn(6, 1)
    before = await sealed(node, log)
    with pytest.raises(FailedPrecondition, match="RAGMESH_INDEX__DIRECTORY"):
        await nodes("one").start()
    await log.write([row(3, 50)], ["p007"])
    view = await seen(node, log)
    check(view, log)
    assert names(view) == before


async def upsert(node: LivingNode, id: str) -> int:
    """Writes the point of that id as a caller of the node does; its commit."""
    wanted = row(int(id[1:]), 0)
    assert wanted.vector is not None
    vector = vector_pb2.Vector(dense=vector_pb2.DenseVector(values=wanted.vector.tolist()))
    point = point_pb2.Point(id=id, text=wanted.text, vector=vector)
    point.payload.update(dict(wanted.payload))
    request = pb.UpsertPointsRequest(collection="collections/papers", points=[point])
    return int((await node.servicer.UpsertPoints(request, a_call())).watermark)


async def rewind(database: Database) -> None:
    """Takes the last commit, which only added points, out of the log, as an older backup would."""
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        await connection.execute("SELECT set_config('ragmesh.tenant', '*', true)")
        for statement in (
            "DELETE FROM points p USING heads h WHERE h.collection_uid = p.collection_uid "
            "AND p.seq = h.seq",
            "DELETE FROM commits c USING heads h WHERE h.collection_uid = c.collection_uid "
            "AND c.seq = h.seq",
            "UPDATE heads h SET seq = c.seq, change_id = c.change_id FROM commits c "
            "WHERE c.collection_uid = h.collection_uid AND c.seq = h.seq - 1",
        ):
            await connection.execute(statement.encode())
