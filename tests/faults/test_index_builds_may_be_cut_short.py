"""Segments are built in processes of their own: whatever is killed or stopped meanwhile, what was
acknowledged is found, nothing of the build is left, and it is begun again."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import psutil
from ragmesh import AsyncClient, Point

from tests.faults.faulty_mesh import FaultyMesh, until

DIMENSIONS = 64
ROWS = 9_000
"""More than a buffer takes before it is sealed."""


def _points(rng: random.Random, first: int, count: int) -> list[Point]:
    return [
        Point(f"p{n}", [rng.gauss(0, 1) for _ in range(DIMENSIONS)], payload={"n": n})
        for n in range(first, first + count)
    ]


async def _fill(client: AsyncClient, collection: str) -> None:
    rng = random.Random(1)
    await client.create_collection(collection, dimensions=DIMENSIONS)
    for first in range(0, ROWS, 1_000):
        await client.upsert_points(collection, _points(rng, first, 1_000))


async def _building(mesh: FaultyMesh) -> psutil.Process:
    """Waits until node-1 builds; the process that does."""
    node, found = psutil.Process(mesh.pid("node-1")), list[psutil.Process]()

    async def builds() -> bool:
        for child in node.children(recursive=True):
            try:
                if "engine.index.building" in child.cmdline():
                    found.append(child)
            except psutil.Error:
                continue
        return bool(found)

    await until(builds, 30, "node-1 builds a segment")
    return found[0]


async def _complete(mesh: FaultyMesh, collection: str, extra: str) -> None:
    """Waits until node-1 has sealed what there is, and holds it against what was written."""
    async with mesh.client("node-1") as client:
        assert [point.id for point in await client.get_points(collection, [extra])] == [extra]

        async def sealed() -> bool:
            # A dead node's lease would be waited for.
            await mesh.rows("UPDATE builds SET until = clock_timestamp() RETURNING 1")
            stats = await client.get_collection_stats(collection)
            return stats.segments > 0 and stats.buffered_points < 1_100

        await until(sealed, 60, "node-1 seals")
        stats = await client.get_collection_stats(collection)
        assert stats.points == ROWS + 1
        listed = {point.id async for point in client.list_points(collection, page_size=1_000)}
        assert listed == {extra, *(f"p{n}" for n in range(ROWS))}
        await client.delete_collection(collection)


def _left(mesh: FaultyMesh) -> list[Path]:
    """What is in the nodes' index directories only while something is built."""
    root = mesh.settings.data_dir / "index"
    return [path for pattern in ("build-*", "*.partial") for path in root.rglob(pattern)]


async def test_a_node_killed_while_it_builds_takes_its_build_with_it_and_begins_anew(
    mesh: FaultyMesh,
) -> None:
    async with mesh.client("node-1") as client:
        await _fill(client, "cut-short")
        build = await _building(mesh)
        await client.upsert_points("cut-short", [Point("last", [1.0] * DIMENSIONS)])
        dead = mesh.kill("node-1")
    gone_s = time.monotonic()
    while build.is_running() and build.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - gone_s < 5, "the build outlives its node"
        await asyncio.sleep(0.02)
    await mesh.lives_again("node-1", dead)
    await mesh.reached("node-1")
    await _complete(mesh, "cut-short", "last")
    await until(lambda: _is_empty(mesh), 20, "what the build left is removed")


async def test_a_build_goes_on_without_postgresql_and_is_adopted_when_it_is_back(
    mesh: FaultyMesh,
) -> None:
    async with mesh.client("node-1") as client:
        await _fill(client, "no-log")
        await client.upsert_points("no-log", [Point("last", [1.0] * DIMENSIONS)], wait=True)
        await _building(mesh)
        await mesh.supervisor.stop_part("postgres")
        found = await client.search_collection("no-log", vector=[1.0] * DIMENSIONS, limit=1)
        assert [hit.point.id for hit in found.hits] == ["last"]
        await asyncio.sleep(2)
        await mesh.supervisor.start_part("postgres")
    await _complete(mesh, "no-log", "last")
    await until(lambda: _is_empty(mesh), 20, "what builds leave is removed")


async def _is_empty(mesh: FaultyMesh) -> bool:
    return not _left(mesh)
