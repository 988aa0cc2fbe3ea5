"""Writers commit in any order and some hold their transactions open, and yet whoever was told of a
commit finds it on every node, and in the end every index equals the table."""

from __future__ import annotations

import asyncio
import random

import pytest
from ragmesh import AsyncClient, Point

from services.store.collections import get_collection
from services.store.points import PointRow, apply_batch
from services.store.store import Store
from tests.faults.faulty_mesh import NODES, FaultyMesh
from tests.faults.soak import seeds

WRITERS = 6
WRITES = 25
IDS = 40
"""Few, so that writers meet on the same points."""


@pytest.mark.parametrize("seed", seeds())
async def test_every_acknowledged_write_is_found_at_its_watermark(
    mesh: FaultyMesh, seed: int
) -> None:
    collection = f"order-{seed}"
    store = await Store.open(mesh.local.postgres_url, connections_max=4, migrations=False)
    doors = [mesh.client(name, consistent_reads=False) for name in NODES]
    try:
        await doors[0].create_collection(collection, dimensions=2)
        stop = asyncio.Event()
        slow = [
            asyncio.create_task(_hold_open(store, collection, stop)),
            asyncio.create_task(_write_slowly(store, collection, stop, random.Random(seed))),
        ]
        await asyncio.gather(
            *(_write(doors, collection, random.Random(f"{seed} {n}"), n) for n in range(WRITERS))
        )
        stop.set()
        await asyncio.gather(*slow)
        head, table = await _table(mesh, collection)
        for client in doors:
            listed = {
                point.id: point.payload["writer"]
                async for point in client.list_points(collection, min_watermark=str(head))
            }
            assert listed == table
    finally:
        await store.close()
        for client in doors:
            await client.close()


async def _write(
    doors: list[AsyncClient], collection: str, random_: random.Random, writer: int
) -> None:
    """Writes and deletes, and looks for each commit on the node that did not take it."""
    for turn in range(WRITES):
        into, from_ = random_.sample(doors, 2)
        point_id = f"p{random_.randrange(IDS)}"
        own = f"w{writer}-{turn}"
        points = [Point(i, [1, turn], payload={"writer": own}) for i in (point_id, own)]
        written = await into.upsert_points(collection, points)
        found = await from_.get_points(collection, [own], min_watermark=written.watermark)
        assert [point.payload["writer"] for point in found] == [own]
        if random_.random() < 0.5:
            deleted = await into.delete_points(collection, [own])
            assert not await from_.get_points(collection, [own], min_watermark=deleted.watermark)


async def _hold_open(store: Store, collection: str, stop: asyncio.Event) -> None:
    """Keeps one transaction open that has written elsewhere: the oldest of all the time."""
    async with store.transaction("elsewhere") as tx:
        await tx.run(
            "INSERT INTO requests (tenant, request_id, method, payload_sha256, response) "
            "VALUES ('elsewhere', %s, 'held', '', '')",
            (collection,),
        )
        await stop.wait()


async def _write_slowly(
    store: Store, collection: str, stop: asyncio.Event, random_: random.Random
) -> None:
    """Begins transactions early and commits them late, some of them never."""
    turn = 0
    while not stop.is_set():
        turn += 1
        gives_up = random_.random() < 0.3
        try:
            async with store.transaction("default") as tx:
                row = await get_collection(tx, collection)
                await asyncio.sleep(random_.uniform(0, 0.05))
                point_id = "given up" if gives_up else f"p{random_.randrange(IDS)}"
                await apply_batch(tx, row, [PointRow(id=point_id, payload={"writer": f"s{turn}"})])
                await asyncio.sleep(random_.uniform(0, 0.05))
                if gives_up:
                    raise _GivenUp
        except _GivenUp:
            continue


class _GivenUp(Exception):
    pass


async def _table(mesh: FaultyMesh, collection: str) -> tuple[int, dict[str, str]]:
    """The head, and who wrote each point last."""
    ((head, uid),) = await mesh.rows(
        "SELECT h.seq, c.uid FROM heads h JOIN collections c ON c.uid = h.collection_uid "
        "WHERE c.id = %s",
        collection,
    )
    points = await mesh.rows("SELECT id, payload FROM points WHERE collection_uid = %s", uid)
    assert points
    assert "given up" not in dict(points)
    return head, {point_id: payload["writer"] for point_id, payload in points}
