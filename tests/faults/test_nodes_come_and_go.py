"""A node that is told to stop drains and loses no request, whichever way its callers came; one
that is killed is taken out, and one that starts gets its share."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.gateway.bootstrap import grpc_bootstrap
from services.mesh.registry import Registry
from services.store.redis import connect
from tests.faults.faulty_mesh import FOLLOW_S, FaultyMesh, until
from tests.faults.given import FIRST, searches
from tests.faults.load import Load

ROOT = Path(__file__).parents[2]
DRAIN_S = 10.0
"""A node without long calls is gone within this."""


async def test_a_node_that_stops_under_load_fails_no_request(mesh: FaultyMesh) -> None:
    left = {mesh.address("node-1")}
    outcome: dict[str, Any] = {}
    async with (
        searches(mesh, "drain") as callers,
        _proxyless(mesh, "drain", outcome),
        Load(*callers) as load,
    ):
        begin_s = time.monotonic()
        await mesh.supervisor.stop_part("node-2")
        drain_s = time.monotonic() - begin_s
        assert await mesh.endpoints() == left
        await load.go_on(50)
        await mesh.supervisor.start_part("node-2")
        follow_s = await until(mesh.both_serve, 20, "the new node gets calls")
        await load.go_on(50)
    assert load.failures == []
    assert outcome["failures"] == []
    assert outcome["done"] > 50
    assert drain_s < DRAIN_S
    assert follow_s < FOLLOW_S


async def test_a_killed_node_is_taken_out_and_replaced(mesh: FaultyMesh) -> None:
    redis = connect(mesh.local.redis_url)
    registry = Registry(redis, ttl_s=3.0)
    address = mesh.address("node-2")
    before = {lease.node_id for lease in await registry.read()}

    async def announced() -> bool:
        leases = await registry.read()
        return any(x.address == address and x.node_id not in before for x in leases)

    async with searches(mesh, "kill") as callers, Load(*callers) as load:
        dead = mesh.kill("node-2")
        # Calls that were in its hands may fail, and none that begins later.
        await asyncio.sleep(0.5)
        in_its_hands = len(load.failures)
        await load.go_on(50)
        await mesh.lives_again("node-2", dead)
        await until(announced, 10, "its successor announces itself")
        follow_s = await until(mesh.both_serve, 10, "its successor gets calls")
        await load.go_on(50)
    await redis.aclose()
    assert in_its_hands <= 4, load.failures
    assert load.failures[in_its_hands:] == []
    assert follow_s < FOLLOW_S


@asynccontextmanager
async def _proxyless(
    mesh: FaultyMesh, collection: str, outcome: dict[str, Any]
) -> AsyncIterator[None]:
    """A client over `xds:///` beside what is inside; what became of its calls is in `outcome`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.xds_client", collection, FIRST),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": grpc_bootstrap(mesh.ads_address, "faults")},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"going\n"
    try:
        yield
    finally:
        said, _ = await process.communicate(b"")
        outcome.update(json.loads(said))
