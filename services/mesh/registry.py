"""The registry of nodes in Redis. It may be lost at any time: nodes announce themselves anew at
the next beat, and readers are told that it was not readable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.mesh.lease import NodeLease, RegistryView

_LOG = logging.getLogger(__name__)
_NODES = "ragmesh:nodes"

BEATS_PER_TTL = 3
"""A lease is renewed this often in its time to live, so that two lost beats do not end it."""

POLL_S = 0.25
"""How often readers look. Endpoints must follow leases within 2 s."""


def _key(node_id: str) -> str:
    return f"ragmesh:node:{node_id}"


class Registry:
    """Writes one node's lease, or reads all of them. `ttl_s` is the life of a lease, seconds."""

    def __init__(self, redis: Redis, ttl_s: float) -> None:
        self._redis = redis
        self.ttl_s = ttl_s

    async def announce(self, lease: NodeLease) -> bool:
        """Writes or renews a lease; False if Redis does not answer."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(_key(lease.node_id), lease.to_json(), px=round(self.ttl_s * 1000))
                pipe.sadd(_NODES, lease.node_id)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            _LOG.debug("registry did not take the lease: %s", error)
            return False
        return True

    async def withdraw(self, node_id: str) -> None:
        """Removes a lease. Not needed for correctness: leases end by themselves."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(_key(node_id))
                pipe.srem(_NODES, node_id)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            return

    async def read(self) -> tuple[NodeLease, ...]:
        """All leases, by node id. Raises RedisError, OSError or TimeoutError."""
        ids = sorted(_text(i) for i in await self._redis.smembers(_NODES))
        if not ids:
            return ()
        values = await self._redis.mget([_key(i) for i in ids])
        ended = [i for i, value in zip(ids, values, strict=True) if value is None]
        if ended:
            await self._redis.srem(_NODES, *ended)
        leases = []
        for node_id, value in zip(ids, values, strict=True):
            try:
                if value is not None:
                    leases.append(NodeLease.from_json(value))
            except (ValueError, KeyError, TypeError):
                _LOG.warning("lease of node %s cannot be read; passed over", node_id)
        return tuple(leases)

    async def watch(self) -> AsyncIterator[RegistryView]:
        """Yields the view at once, then at every poll; never raises for a lost Redis."""
        leases: tuple[NodeLease, ...] = ()
        readable_since_s: float | None = None
        while True:
            try:
                leases = await self.read()
                readable_since_s = readable_since_s or time.monotonic()
                yield RegistryView(leases, True, readable_since_s)
            except (RedisError, OSError, TimeoutError):
                readable_since_s = None
                yield RegistryView(leases, False, time.monotonic())
            await asyncio.sleep(POLL_S)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
