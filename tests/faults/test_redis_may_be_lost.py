"""Redis holds only what may be lost: stopped, emptied or started, it costs no request."""

from __future__ import annotations

import redis.asyncio

from services.mesh.registry import Registry
from tests.faults.faulty_mesh import FOLLOW_S, FaultyMesh, until
from tests.faults.given import searches
from tests.faults.load import Load


async def test_no_request_fails_while_redis_is_stopped_emptied_and_started(
    mesh: FaultyMesh,
) -> None:
    addresses = set(mesh.local.node_addresses)
    connection = redis.asyncio.from_url(mesh.local.redis_url)
    registry = Registry(connection, ttl_s=3.0)

    async def all_announced() -> bool:
        return {lease.address for lease in await registry.read()} == addresses

    async with searches(mesh, "registry") as callers, Load(*callers) as load:
        await mesh.supervisor.stop_part("redis")
        await load.go_on(50)
        await mesh.supervisor.start_part("redis")
        after_restart_s = await until(all_announced, 10, "leases after the restart")
        await connection.flushall()
        after_flush_s = await until(all_announced, 10, "leases after the flush")
        await load.go_on(50)
        assert await mesh.endpoints() == addresses
    await connection.aclose()
    assert load.failures == []
    assert after_restart_s < FOLLOW_S
    assert after_flush_s < FOLLOW_S
