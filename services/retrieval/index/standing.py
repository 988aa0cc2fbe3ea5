"""What the nodes tell each other of their indexes through Redis: that a log has moved, and how far
each has come with it.

Nothing depends on it: without Redis nodes look at the log by themselves, a little later, and a
write that waits waits for its own node only (D4).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ending import ended
from services.mesh.lease import NodeLease
from services.mesh.registry import Registry

_LOG = logging.getLogger(__name__)
_MOVED = "ragmesh:moved"

LOOK_S = 0.01
"""Between two looks at how far the others have come."""

KEPT_S = 3600
"""How long what a node said of a collection is kept. It says so again with each commit."""

RETRY_S = 1.0


class Standing:
    """One node's part; `moved` is called with each collection whose log another node moved."""

    def __init__(
        self, redis: Redis | None, node_id: str, moved: Callable[[uuid.UUID], None]
    ) -> None:
        self._redis = redis
        self._node_id = node_id
        self._moved = moved
        self._standing: dict[uuid.UUID, int] = {}
        self._written: set[uuid.UUID] = set()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.hears = False
        """Whether other nodes' writes are heard of now."""

    async def start(self) -> None:
        """Speaks and listens from now on."""
        if self._redis is not None:
            self._tasks = [
                asyncio.create_task(self._speak(self._redis), name="standing"),
                asyncio.create_task(self._listen(self._redis), name="moved logs"),
            ]

    async def close(self) -> None:
        """Stops."""
        await ended(self._tasks)

    def wrote(self, collection: uuid.UUID) -> None:
        """Says that this node moved a log."""
        if self._redis is not None:
            self._written.add(collection)
            self._news.set()

    def came(self, collection: uuid.UUID, seq: int) -> None:
        """Says how far this node's index has come; 0 when it is closed."""
        if self._redis is not None:
            self._standing[collection] = seq
            self._news.set()

    async def behind(self, collection: uuid.UUID, seq: int, give_up_s: float) -> list[str]:
        """The other live nodes that have this collection open and did not apply commit `seq` until
        `give_up_s` of `time.monotonic`. None are named while Redis does not answer."""
        if self._redis is None:
            return []
        registry = Registry(self._redis, RETRY_S)
        while True:
            try:
                others = [lease for lease in await registry.read() if self._counts(lease)]
                if not others:
                    return []
                names = [lease.node_id for lease in others]
                said = await cast(
                    Awaitable[list[bytes | None]], self._redis.hmget(_key(collection), names)
                )
            except (RedisError, OSError, TimeoutError) as error:
                _LOG.debug("how far other nodes are is not known: %s", error)
                return []
            late = [
                name
                for name, value in zip(names, said, strict=True)
                if value is not None and 0 < int(value) < seq
            ]
            if not late or time.monotonic() + LOOK_S >= give_up_s:
                return late
            await asyncio.sleep(LOOK_S)

    def _counts(self, lease: NodeLease) -> bool:
        serves = lease.state == "SERVING" and "retrieval" in lease.services
        return serves and lease.node_id != self._node_id

    async def _speak(self, redis: Redis) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            standing, self._standing = self._standing, {}
            written, self._written = self._written, set()
            try:
                async with redis.pipeline(transaction=False) as pipe:
                    for collection, seq in standing.items():
                        pipe.hset(_key(collection), self._node_id, str(seq))
                        pipe.expire(_key(collection), KEPT_S)
                    for collection in written:
                        pipe.publish(_MOVED, f"{self._node_id} {collection}")
                    await pipe.execute()
            except (RedisError, OSError, TimeoutError):
                self._standing = standing | self._standing
                await asyncio.sleep(RETRY_S)
                self._news.set()

    async def _listen(self, redis: Redis) -> None:
        while True:
            try:
                async with redis.pubsub() as heard:
                    await heard.subscribe(_MOVED)
                    self.hears = True
                    async for message in heard.listen():
                        self._hear(message.get("data"))
            except (RedisError, OSError, TimeoutError):
                self.hears = False
                await asyncio.sleep(RETRY_S)

    def _hear(self, data: object) -> None:
        if not isinstance(data, bytes):
            return
        node_id, _, collection = data.decode("utf-8", "replace").partition(" ")
        if node_id != self._node_id:
            with contextlib.suppress(ValueError):
                self._moved(uuid.UUID(collection))


def _key(collection: uuid.UUID) -> str:
    return f"ragmesh:applied:{collection}"
