"""PostgreSQL may stop: searches of known collections go on, writes fail with advice and succeed
once it is back, and what was acknowledged stays."""

from __future__ import annotations

import asyncio
import time

import pytest
import ragmesh
from ragmesh import Point

from tests.faults.faulty_mesh import FaultyMesh
from tests.faults.given import FIRST, searches
from tests.faults.load import Load

RECOVERY_S = 3.0
"""Writes succeed this long after PostgreSQL is back, at the most."""
OUTAGE_S = 6.0
"""Long enough for a pool that waits twice as long after every failure to be seen waiting."""


async def test_searches_go_on_and_no_acknowledged_write_is_lost(mesh: FaultyMesh) -> None:
    acknowledged: list[str] = []
    refused: list[ragmesh.RagmeshError] = []
    async with searches(mesh, "outage") as callers, mesh.client() as client:

        async def write() -> None:
            point_id = f"w{len(acknowledged) + len(refused)}"
            try:
                await client.upsert_points("outage", [Point(point_id, [0, 1])], timeout_s=5)
                acknowledged.append(point_id)
            except ragmesh.RagmeshError as error:
                refused.append(error)

        async with Load(*callers, write) as load:
            await mesh.supervisor.stop_part("postgres")
            with pytest.raises(ragmesh.StoreUnavailable) as failure:
                await client.create_collection("meanwhile", dimensions=2)
            await load.go_on(20)
            await asyncio.sleep(OUTAGE_S)
            await mesh.supervisor.start_part("postgres")
            recovery_s = await _next(acknowledged)
            await load.go_on(20)
        assert load.failures == []
        assert failure.value.retry_after_s
        assert recovery_s < RECOVERY_S
        assert {type(error) for error in refused} <= {
            ragmesh.StoreUnavailable,
            ragmesh.DeadlineExceeded,
        }
        found = {point.id async for point in client.list_points("outage")}
        assert {FIRST, *acknowledged} <= found


async def _next(acknowledged: list[str]) -> float:
    """Waits for one more acknowledged write; how long that took, in seconds."""
    begin_s, count = time.monotonic(), len(acknowledged)
    async with asyncio.timeout(60):
        while len(acknowledged) == count:
            await asyncio.sleep(0.02)
    return time.monotonic() - begin_s
