"""Nodes may be killed at any moment while a second index is built and exchanged: no acknowledged
write is lost, none is done twice, and both indexes end with the same points."""

from __future__ import annotations

import asyncio
import random
import uuid

import numpy as np
import pytest
import ragmesh
from ragmesh import AsyncClient, HnswSettings, Migration, Point

from tests.faults.faulty_mesh import NODES, FaultyMesh, until
from tests.faults.soak import seeds

DIMENSIONS = 16
READY_S = 90.0
_POINTS = (
    "SELECT p.id, p.vector, p.text FROM points p JOIN collections c ON c.uid = p.collection_uid "
    "WHERE c.id = %s ORDER BY p.id"
)


class Writer:
    """Writes one batch after the other through the gateway, however often a node dies under it, and
    remembers what has to be there."""

    def __init__(self, client: AsyncClient, collection: str, seed: int) -> None:
        self._client = client
        self._collection = collection
        self._random = random.Random(seed)
        self.present: dict[str, bytes] = {}
        self.watermark = ""
        self.stopped = False

    async def run(self) -> None:
        """Until stopped."""
        while not self.stopped:
            await self.step()
            await asyncio.sleep(0.02)

    async def step(self) -> None:
        """A batch, now and then of deletes."""
        chosen = self._random.sample(range(400), 20)
        ids = [f"p{number:03d}" for number in chosen]
        if self.present and self._random.random() < 0.25:
            await self._until_done("delete_points", ids)
            for id in ids:
                self.present.pop(id, None)
            return
        rows = np.random.default_rng(self._random.getrandbits(32)).normal(
            size=(len(ids), DIMENSIONS)
        )
        vectors = rows.astype("<f4")
        points = [Point(id, row, text="words") for id, row in zip(ids, vectors, strict=True)]
        await self._until_done("upsert_points", points)
        self.present |= {id: row.tobytes() for id, row in zip(ids, vectors, strict=True)}

    async def _until_done(self, name: str, what: object) -> None:
        request_id = str(uuid.uuid4())
        call = getattr(self._client, name)
        async with asyncio.timeout(60):
            while True:
                try:
                    done = await call(self._collection, what, request_id=request_id)
                    self.watermark = done.watermark
                    return
                except ragmesh.Unavailable:
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", seeds())
async def test_no_write_is_lost_however_often_nodes_die(mesh: FaultyMesh, seed: int) -> None:
    random_, collection = random.Random(seed), f"exchange-{seed}"
    async with mesh.client() as client:
        await client.create_collection(collection, dimensions=DIMENSIONS)
        writer = Writer(client, collection, seed)
        for _ in range(40):
            await writer.step()
        writing = asyncio.create_task(writer.run())
        await client.start_migration(collection, hnsw=HnswSettings(8, 40, 0))
        await asyncio.sleep(random_.uniform(0.0, 0.5))
        mesh.kill(random_.choice(NODES))
        await _ready(client, collection)
        for back in (False, True, False):
            await _flipped(mesh, client, collection, back, random_)
        writer.stopped = True
        await writing
        await _caught_up(client, collection)
        await mesh.whole()
        wanted = [(id, row, "words") for id, row in sorted(writer.present.items())]
        for name in (collection, f"{collection}/second"):

            async def same(name: str = name) -> bool:
                rows = await mesh.rows(_POINTS, name)
                return [(id, bytes(row), text) for id, row, text in rows] == wanted

            # Deletes that are still to be mirrored count as no points.
            await until(same, READY_S, f"{name} has what was acknowledged")
        for door in NODES:
            async with mesh.client(door) as direct:
                listed = direct.list_points(collection, min_watermark=writer.watermark)
                assert [point.id async for point in listed] == sorted(writer.present)
        await client.end_migration(collection)
        assert (await client.get_collection(collection)).hnsw.m == 8
        assert await mesh.rows(_POINTS, f"{collection}/second") == []


async def _flipped(
    mesh: FaultyMesh, client: AsyncClient, collection: str, back: bool, random_: random.Random
) -> None:
    """Exchanges the indexes while a node dies, and again until it is done."""

    async def kill() -> None:
        await asyncio.sleep(random_.uniform(0.0, 0.3))
        mesh.kill(random_.choice(NODES))

    killing = asyncio.create_task(kill())
    wanted = "ready" if back else "flipped"
    async with asyncio.timeout(READY_S):
        while True:
            try:
                found = await client.flip_migration(collection, roll_back=back, timeout_s=20)
                assert found.state == wanted
                break
            except (ragmesh.Unavailable, ragmesh.DeadlineExceeded, ragmesh.MigrationNotReady):
                await asyncio.sleep(0.1)
    await killing
    await mesh.whole()


async def _ready(client: AsyncClient, collection: str) -> Migration:
    return await _until(client, collection, lambda found: found.state != "building")


async def _caught_up(client: AsyncClient, collection: str) -> Migration:
    return await _until(client, collection, lambda found: found.points_left == 0)


async def _until(client: AsyncClient, collection: str, condition: object) -> Migration:
    assert callable(condition)
    async with asyncio.timeout(READY_S):
        while True:
            try:
                found = await client.get_migration(collection)
                if condition(found):
                    return found
            except ragmesh.Unavailable:
                pass
            await asyncio.sleep(0.1)
